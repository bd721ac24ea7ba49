"""The page of results: made again it is the same, its ranges hold what was measured, and a class can compare."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from classroom import results
from course_utils.files import load_results, scores

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_command_makes():
    assert results.page(results.measured_before()) == PAGE, "make it again: python -m classroom.results"


def test_every_notebook_has_its_numbers_and_lies_within_its_own_ranges():
    assert list(results.ROWS) == sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    for name, rows in results.ROWS.items():
        notebook = results.Notebook(ROOT / "notebooks" / f"{name}.ipynb")
        assert 2 <= len(rows) <= 4, name
        for row in rows:
            line = results.line_of(row, notebook)
            if line.low is not None:
                assert line.low <= float(line.measured.split()[0]) <= line.high, line


def test_the_means_are_those_that_the_notebook_prints():
    grid = scores(load_results("fine_tuning"), "recipe", "labels_per_class", freeze_batch_norm=1)
    for recipe in ("scratch", "probe", "full"):
        mean, deviation = 100 * np.mean(grid[recipe][5]), 100 * np.std(grid[recipe][5], ddof=1)
        assert f"| {mean:.1f} ± {deviation:.1f} % | ± 4 points, run by run | – |" in PAGE
    printed = json.loads((ROOT / "notebooks" / "03_cnn_fine_tuning.ipynb").read_text(encoding="utf-8"))
    output = "".join(map(results.printed_by, printed["cells"]))
    assert f"{mean:.1f}% ± {deviation:4.1f}%".replace("±  ", "± ") in output


def test_the_page_says_where():
    measured = results.measured_before()
    first = results.Notebook(ROOT / "notebooks" / "00_start_here.ipynb")
    assert re.search(r"PyTorch (\d+\.\d+\.\d+)", first.outputs)[0] in measured, "the notebooks ran on another version"
    assert re.search(r"on 20\d\d-\d\d-\d\d, \d+ cores of .+, 1 thread;", measured)


@pytest.mark.parametrize(
    ("kind", "numbers", "inside", "outside"),
    [
        ("same", (), 90, 90.1),
        ("within", (3,), 87, 86.9),
        ("spread", (2,), 94, 94.1),
        ("near", (80, 15), 95, 64.9),
        ("between", (89, 91), 89, 91.1),
        ("above", (65,), 100, 64),
        ("below", (95,), 0, 96),
    ],
)
def test_the_ranges(kind, numbers, inside, outside):
    low, high = results.RANGES[kind](90, *numbers)
    assert low <= inside <= high and not low <= outside <= high


def copy(name: str, folder: Path, change=lambda text: text) -> None:
    text = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
    (folder / f"{name}.ipynb").write_text(change(text), encoding="utf-8")


def test_somebody_compares_with_own_notebooks(tmp_path, capsys):
    copy("00_start_here", tmp_path, lambda text: re.sub(r"pretrained    \d+\.\d ±", "pretrained    70.0 ±", text))
    copy("03_cnn_fine_tuning", tmp_path)
    copy("08_what_comes_next", tmp_path, lambda text: text.replace("of the test forms", "of nothing"))
    for name, text in (("05_diagnosing_training", '{"cells": [3]}'), ("09_federated_and_beyond", "{")):
        (tmp_path / f"{name}.ipynb").write_text(text, encoding="utf-8")
    assert results.main(["--yours", str(tmp_path)]) == 0
    shown = {line[:40].strip(): line[40:].strip() for line in capsys.readouterr().out.splitlines()}
    assert shown["pretrained, three runs"].endswith("70.0 %   OUTSIDE")
    assert re.search(r"above 5 points  \d+\.\d points$", shown["the difference"])
    assert shown["all training forms, the test"].endswith("not run by you: the notebook is as it came")
    assert shown["LoRA of rank 4, 20 labels a class"].endswith("not run to its end, or not saved")
    for broken in ("first loss of the healthy run", "ten writers, round 2"):
        assert shown[broken].endswith("not run to its end, or not saved")
    assert shown["TF-IDF on new modules"].endswith("no such notebook there")
    assert "from scratch, 5 labels a class" not in shown, "what comes from a stored file is nobody's own"
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == PAGE, "comparing writes nothing"


def test_what_is_missing_is_said(tmp_path, capsys, monkeypatch):
    assert results.main(["--yours", str(tmp_path / "nowhere")]) == 1
    assert "There is no folder" in capsys.readouterr().err
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    assert results.main([]) == 1
    assert "--measured-here" in capsys.readouterr().err
    with pytest.raises(ValueError, match="has 0 rows"):
        results.line_of(results.Stored("nothing", "fine_tuning", dict(recipe="magic")), None)


def test_the_command_writes_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(results, "titles", lambda: dict.fromkeys(results.ROWS, ("Title", "9 s")))
    assert results.main(["--measured-here"]) == 0
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert text.startswith("# What was measured") and re.search(r"^\*Measured on \d{4}-.+ 1 thread; .+\*$", text, re.M)
    assert "load" not in text.splitlines()[2], "how busy the machine was is nothing to compare with"
