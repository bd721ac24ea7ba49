"""The benchmarks still run, count what they say, and keep the results that they did not measure again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import images, loop, notebooks, steps
from benchmarks.measure import Row, in_turn, machine, spread, table, times_faster

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_every_benchmark_runs(tmp_path):
    call = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path / "results.md")]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", written, flags=re.M) == list(command.PARTS)
    lines = [line for line in written.splitlines() if line.startswith("|") and "---" not in line]
    assert all(line.count("|") == 6 for line in lines)
    assert written.count("| what | measured | goal | met | how |") == len(command.PARTS) < len(lines) // 2
    assert str(ROOT) not in written and str(Path.home()) not in written


def test_every_module_is_a_part():
    there = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"__init__", "__main__", "measure"}
    assert there == set(command.PARTS)


def test_the_stored_results_have_every_part_and_are_dated():
    stored = command.RESULTS.read_text(encoding="utf-8")
    assert re.findall(r"^## (\w+)$", stored, flags=re.M) == list(command.PARTS)
    assert len(re.findall(r"^\*20\d\d-\d\d-\d\d, \d+ cores of ", stored, flags=re.M)) == len(command.PARTS)


def test_a_part_replaces_its_own_section_and_no_other(tmp_path):
    file = tmp_path / "results.md"
    for part, text in [("loop", "first\n\n| a |"), ("images", "second"), ("gpu", "third"), ("loop", "fourth")]:
        command.update(file, part, text)
    sections = "## images\n\nsecond\n\n## loop\n\nfourth\n\n## gpu\n\nthird\n"
    assert file.read_text(encoding="utf-8") == command.TITLE + sections


def test_an_unknown_part_is_named(capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["imagse"])
    assert stop.value.code == 2
    assert "no part 'imagse'" in capsys.readouterr().err


def test_variants_run_in_turn_after_one_round_that_is_not_measured():
    called = []
    seconds = in_turn({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=2)
    assert "".join(called) == "ababab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    busy = in_turn({"idle": lambda: None, "busy": lambda: sum(range(300_000))}, rounds=3)
    assert min(busy["busy"]) > max(busy["idle"])


def test_a_ratio_is_the_median_of_the_rounds_and_its_goal_is_held_against_it():
    row = times_faster("x", [10.0, 20.0, 30.0], [5.0, 5.0, 5.0], 4)
    assert row == Row("x", "4.0 × (2.0 to 6.0)", "at least 4 ×", True, "3 rounds")
    assert times_faster("x", [10.0], [5.0], 4).met is False
    assert times_faster("x", [10.0], [5.0]).met is None
    assert spread([3.0, 1.0, 2.5], "s") == "2.5 s (1.0 to 3.0)"


def test_a_missed_goal_says_no_and_what_was_not_measured_says_neither():
    lines = table([Row("a", "1", "2", False), Row("b", "3", "2", True), Row("c", "not measured", "2")]).splitlines()
    assert lines[2:] == ["| a | 1 | 2 | **no** |  |", "| b | 3 | 2 | yes |  |", "| c | not measured | 2 |  |  |"]


def test_the_machine_is_described_without_its_name():
    import platform

    assert re.search(r"\d+ cores of .+PyTorch \d", machine())
    assert platform.node() not in machine()


def test_the_loop_of_the_course_calls_at_most_20_functions_more_a_step_than_one_by_hand():
    """Counted, not timed: this one is a goal that a test can hold."""
    for run in (loop.by_hand, loop.with_fit):
        loop.calls(run, 2)
    extra = loop.calls_a_step(loop.with_fit) - loop.calls_a_step(loop.by_hand)
    assert extra <= 20


def test_calls_are_counted():
    def python_and_c(steps, folder):
        for _ in range(steps):
            (lambda: abs(-1))()

    assert loop.calls_a_step(python_and_c) == 2


def test_both_loaders_deal_out_the_same_pixels():
    assert images.largest_difference(64, count=8) <= 1.001


def test_the_probe_computes_its_features_anew_in_every_round(monkeypatch):
    computed, original = [], steps.cached_features
    monkeypatch.setattr(steps, "cached_features", lambda *a, **k: computed.append(k["folder"]) or original(*a, **k))
    run = steps.probe("squeezenet1_1", 2, 32, amp=False)
    run()
    run()
    assert len(set(computed)) == 2


def test_the_memory_of_a_notebook_is_that_of_its_own_kernel():
    """Both kernels load the same; one also fills 200 MB."""
    small, large = (notebooks.of_one_cell(f"x = b'1' * {size}_000_000") for size in (1, 201))
    difference = notebooks.measure(large)[1] - notebooks.measure(small)[1]
    assert 0.1 < difference < 0.3


def test_a_notebook_that_stops_is_said_to_be_not_measured():
    row = notebooks.row("broken", notebooks.of_one_cell("1 / 0"))
    assert row.measured == "not measured: the notebook stopped with ZeroDivisionError" and row.met is None
