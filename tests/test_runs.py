"""The table of runs: each number in it is looked up in what was logged, and what is missing or broken is said."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboardX import RecordWriter, SummaryWriter
from tensorboardX.proto.event_pb2 import Event

from course_utils.__main__ import main
from course_utils.commands import runs
from course_utils.tracking import RunLogger

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Three runs by the course's logger, one of them resumed, and one by a plain writer with a sub-run."""
    folder = tmp_path_factory.mktemp("my files") / "runs"
    for name in ("search/run-10", "search/run-2"):
        with RunLogger(folder / name) as logger:
            for step in range(1, 11):
                logger.log_scalars({"loss/val": (step - 4) ** 2 / 8, "learning_rate": 0.125}, step)
            for step, value in ((5, 0.25), (7, float("nan")), (8, 0.75), (10, 0.5)):
                logger.log_scalars({"accuracy/val": value}, step)
            logger.log_hparams({"lr": 0.125, "frozen": True, "optimizer": "SGD"}, {})
    for steps in (range(1, 9), range(6, 8)):
        with RunLogger(folder / "resumed", resume=True, purge_step=steps[0] - 1) as logger:
            for step in steps:
                logger.log_scalars({"loss/step": float(step)}, step)
    with SummaryWriter(str(folder / "plain")) as writer:
        writer.add_text("note", "no scalar here", 0)
        writer.add_hparams({"lr": 0.5}, {"loss": 0.25}, name="trial", global_step=3)
    return folder


def lines_of(folder, capsys, *options):
    assert main(["runs", str(folder), *options]) == 0
    return capsys.readouterr().out.splitlines()


def test_last_and_best_value_of_each_scalar(logged, tmp_path, capsys):
    lines_of(logged, capsys, "--csv", str(tmp_path / "table.csv"))
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["run"], row["scalar"]): row for row in csv.DictReader(file)}
    found = {key: [row[c] for c in ("points", "last_step", "last", "best", "best_step")] for key, row in rows.items()}
    assert found == {
        ("plain", ""): ["0", "", "", "", ""],
        ("plain/trial", "loss"): ["1", "3", "0.25", "0.25", "3"],
        ("resumed", "loss/step"): ["7", "7", "7.0", "1.0", "1"],
        ("search/run-2", "accuracy/val"): ["4", "10", "0.5", "0.75", "8"],
        ("search/run-2", "learning_rate"): ["10", "10", "0.125", "", ""],
        ("search/run-2", "loss/val"): ["10", "10", "4.5", "0.0", "4"],
        ("search/run-10", "accuracy/val"): ["4", "10", "0.5", "0.75", "8"],
        ("search/run-10", "learning_rate"): ["10", "10", "0.125", "", ""],
        ("search/run-10", "loss/val"): ["10", "10", "4.5", "0.0", "4"],
    }
    assert list(rows) == list(found), "in this order: run-2 before run-10"


NAMES = {
    "smallest": "loss loss/val val_loss loss_epoch Loss/train valLoss epoch_loss evaluation_loss_vs_iterations l1_loss "
    "loss/2 perplexity error error_rate top1_error word_error_rate wer/val rmse mae mean_absolute_error nll "
    "brier_score cross_entropy binary_crossentropy accuracy/loss dice_loss loss_per_token val_loss/dataloader_idx_0 "
    "validation_0-logloss eval-mlogloss eval-merror top-1-error",
    "largest": "accuracy/val hparams/accuracy/val accuracy/worst_class class_accuracy/3 lossless_accuracy acc1 "
    "top_5_acc eval_loss/accuracy valAccuracy error/accuracy F1Score f1_macro roc_auc AUC mAP mAP50-95 recall@10 "
    "precision_at_5 ndcg@5 hit_rate iou/mean r2 log_likelihood metrics/mAP50-95(B) metrics/precision(M) roc_auc_ovr "
    "val_acc/dataloader_idx_1 top-1-accuracy",
    "none": "loss_scale loss/scale loss_weight learning_rate lr grad_norm grad_norm/loss loss/grad_norm gradient/norm "
    "neg_log_loss neg_mean_squared_error negative/recall one_minus_accuracy 1-accuracy 1_-_accuracy "
    "val/1-auc -loss val/-log_likelihood loss_std accuracy/std "
    "loss_ratio accuracy_gap glossy floss terror mirror bacchus inaccuracy false_positive_rate entropy step epoch "
    "update/head loss/cosine_similarity loss_fn loss/训练 samples_per_second dropout_rate "
    "time/loss not_finite/weights/fc.weight",
}


@pytest.mark.parametrize(("sign", "wanted"), [(1, "smallest"), (-1, "largest"), (0, "none")])
def test_which_value_is_the_best_is_told_by_words_and_not_by_letters(sign, wanted):
    assert {name: runs.sign_of(name) for name in NAMES[wanted].split()} == dict.fromkeys(NAMES[wanted].split(), sign)


def test_the_table_lines_up_and_says_what_best_means(logged, capsys):
    lines = lines_of(logged, capsys)
    end = lines.index("")
    header, *rows = lines[:end]
    assert [row.split()[0] for row in rows if row[0] != " "] == [
        "plain", "plain/trial", "resumed", "search/run-2", "search/run-10"
    ]  # fmt: skip
    best = header.index("best") + len("best")
    assert {row[:best].split()[-1] for row in rows if "loss/val" in row} == {"0"}
    assert {row[:best].split()[-1] for row in rows if "accuracy/val" in row} == {"0.75"}
    assert "smallest loss or error, the largest accuracy" in lines[end + 1]


def test_hyper_parameters_are_told_run_by_run(logged, capsys):
    lines = lines_of(logged, capsys)
    assert "plain/trial: lr=0.5" in lines
    assert "search/run-2: frozen=True, lr=0.125, optimizer=SGD" in lines


def test_the_duration_is_that_of_the_work_without_the_break(tmp_path, capsys):
    for number, start in enumerate((1_700_000_000, 1_700_010_000)):
        file = RecordWriter(str(tmp_path / f"events.out.tfevents.{start}.run.{number}"))
        for event in range(3):
            file.write(Event(wall_time=start + 2.5 * event, file_version="brain.Event:2").SerializeToString())
        file.close()
    assert lines_of(tmp_path, capsys)[1].split()[-1] == "10"


def test_the_folder_itself_can_be_a_run(tmp_path, capsys):
    with RunLogger(tmp_path) as logger:
        logger.log_scalars({"loss": 0.5}, 1)
    assert lines_of(tmp_path, capsys)[1].split()[:2] == [".", "loss"]


def test_no_folder_and_no_run_are_said_in_words(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 1
    assert "no folder runs here" in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    (line,) = lines_of("runs", capsys)
    assert line.startswith("There is no run below runs")


@pytest.mark.parametrize("damage", ["cut", "empty", "another file", "one bit"])
def test_a_broken_file_is_told_and_hides_no_other_run(logged, tmp_path, capsys, damage):
    shutil.copytree(logged, tmp_path / "runs")
    file = next((tmp_path / "runs" / "search" / "run-2").iterdir())
    whole = file.read_bytes()
    content = {"cut": whole[:-5], "empty": b"", "another file": b"\x89PNG, and no event at all" * 9}
    content["one bit"] = whole[:500] + bytes([whole[500] ^ 4]) + whole[501:]
    file.write_bytes(content[damage])
    lines = lines_of(tmp_path / "runs", capsys)
    told = [line for line in lines if line.startswith("search/run-2: ") and "no whole record" in line]
    assert len(told) == (damage != "empty")
    assert any(line.startswith("search/run-10") for line in lines) and any(
        line.startswith("search/run-2") for line in lines
    )


def test_a_folder_whose_name_looks_like_a_log_is_looked_into(logged, tmp_path, capsys):
    folder = tmp_path / "runs"
    shutil.copytree(logged / "resumed", folder)
    shutil.copytree(logged / "plain", folder / "old tfevents")
    lines = lines_of(folder, capsys)
    assert any(line.startswith("old tfevents/trial") for line in lines)


@pytest.fixture
def link():
    """Makes a link to a directory, where the system lets a test do so."""

    def make(path, target):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.symlink_to(target, target_is_directory=True)
        except OSError:
            pytest.skip("this system lets a test make no links")

    return make


def names_in(lines):
    return [line.split()[0] for line in lines[1 : lines.index("")] if line[0] != " "]


def test_runs_that_are_links_are_listed_under_the_links_name(logged, tmp_path, capsys, link):
    """As TensorBoard's README advises for comparing runs."""
    for name, target in (
        ("two", "search/run-2"),
        ("again", "search/run-2"),
        ("deep/all", "search"),
        ("plain", "plain"),
    ):
        link(tmp_path / "compare" / name, logged / target)
    link(tmp_path / "compare" / "file" / "events.out.tfevents.1", next((logged / "resumed").iterdir()))
    link(tmp_path / "compare" / "gone", tmp_path / "nowhere")
    wanted = ["again", "deep/all/run-2", "deep/all/run-10", "file", "plain", "plain/trial", "two"]
    assert names_in(lines_of(tmp_path / "compare", capsys)) == wanted
    link(tmp_path / "other name", tmp_path / "compare")
    assert names_in(lines_of(tmp_path / "other name", capsys)) == wanted


def test_links_that_lead_back_have_an_end(tmp_path, capsys, link, monkeypatch):
    runs = tmp_path / "runs"
    for name in ("a/one", "b/two"):
        with RunLogger(runs / name) as logger:
            logger.log_scalars({"loss": 0.5}, 1)
    link(runs / "itself", runs / "itself")
    link(runs / "back", runs)
    link(runs / "a" / "up", tmp_path)
    link(runs / "a" / "b", runs / "b")
    link(runs / "b" / "a", runs / "a")
    wanted = ["a/b/two", "a/one", "b/a/one", "b/two"]
    assert names_in(lines_of(runs, capsys)) == wanted
    monkeypatch.chdir(runs)
    assert names_in(lines_of(".", capsys)) == wanted


def test_it_starts_without_torch(logged):
    code = "import sys; from course_utils.__main__ import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "runs", str(logged)],
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "utf-8"}, capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False", done.stderr
