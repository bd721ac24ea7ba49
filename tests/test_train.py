"""The commands train and predict: what a run writes, that it goes on after any end, and what is refused in words."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from filelock import FileLock
from PIL import Image
from tiny_cifar10 import write_tiny_cifar10

from course_utils.__main__ import main, parse
from course_utils.commands.train import new_settings
from course_utils.doctor.machine import ROOT
from course_utils.full_size import experiment
from course_utils.full_size.experiment import Settings, wilson
from course_utils.full_size.saved_model import load_model
from course_utils.recipes import RATES
from course_utils.tracking import read_scalars


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes of twenty, noisy dark and noisy light ones, in a folder with a blank in its name."""
    folder, random = tmp_path_factory.mktemp("data") / "my pictures", np.random.default_rng(0)
    for name, light in (("dark", 0), ("light", 100)):
        (folder / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(light, light + 156, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


def command(pictures, run_dir, *more, epochs=2):
    return [
        "train",
        "--data",
        str(pictures),
        "--batch-size",
        "8",
        "--epochs",
        str(epochs),
        "--out",
        str(run_dir),
        *more,
    ]


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    """A run of twenty epochs that nothing interrupted."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    assert main(command(pictures, run_dir, epochs=20)) == 0
    return run_dir


@pytest.mark.skipif(os.name == "nt", reason="Windows deletes no file that is open")
def test_a_run_that_is_deleted_while_it_goes_on_is_told_of(pictures, tmp_path, capsys, monkeypatch):
    run_dir = tmp_path / "run"

    def deleting(function):
        def call(*args, **options):
            shutil.rmtree(run_dir)
            return function(*args, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit", deleting(experiment.fit))
        assert main(command(pictures, run_dir)) == 1
    assert "error: The log of run was deleted while it was being written" in capsys.readouterr().err
    shutil.rmtree(run_dir, ignore_errors=True)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "score", deleting(experiment.score))
        assert main(command(pictures, run_dir)) == 0
    said = capsys.readouterr()
    assert "TensorBoard's" not in said.out
    assert "settings.json, checkpoint.pt, TensorBoard's files: deleted while the run went on, and lost." in said.err
    assert sorted(path.name for path in run_dir.iterdir() if path.suffix) == [
        "history.csv", "mistakes.csv", "model.pt", "summary.json"
    ]  # fmt: skip


def test_what_a_killed_first_call_has_left_is_in_nobodys_way(pictures, tmp_path):
    program = (
        "import os, pathlib, sys; from course_utils.__main__ import main;"
        "pathlib.Path.replace = lambda *_: os._exit(9);"
        "main(sys.argv[1:])"
    )
    words = command(pictures, tmp_path / "run", "--recipe", "probe", "--data-root", str(tmp_path / "data"), epochs=1)
    assert subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT).returncode == 9
    assert any(path.suffix == ".unfinished" for path in (tmp_path / "run").iterdir())
    assert main(words) == 0


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def numbers(run_dir):
    """What two runs with the same numbers share: the history without its seconds, the score, the weights."""
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in table(run_dir / "history.csv")]
    summary = json.loads((run_dir / "summary.json").read_text())
    weights = torch.load(run_dir / "model.pt", weights_only=True)["state_dict"]
    return rows, summary["test_accuracy"], {name: weight.tolist() for name, weight in weights.items()}


# --- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_writes_all_that_it_promises(trained, pictures):
    summary = json.loads((trained / "summary.json").read_text())
    low, high = summary["interval_95"]
    assert 0 <= low <= summary["test_accuracy"] <= high <= 1 and summary["test_images"] == 6
    assert summary["epochs"] == 20 and summary["training_images_per_second"] > 0 and summary["peak_memory_gib"] > 0
    rows = table(trained / "history.csv")
    assert [int(row["epoch"]) for row in rows] == list(range(1, 21))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"]) / 2
    scalars = read_scalars(trained)
    assert scalars["loss/val"].values[-1] == pytest.approx(float(rows[-1]["val_loss"]), rel=1e-6)
    model, class_names = load_model(trained / "model.pt")
    assert class_names == ("dark", "light") and model.input_spec.size == 32
    assert len(table(trained / "mistakes.csv")) == round(6 * (1 - summary["test_accuracy"]))


@pytest.mark.parametrize("recipe", RATES)
def test_every_recipe_runs_and_repeats_itself(pictures, tmp_path, recipe):
    for name in ("one", "two"):
        assert main(command(pictures, tmp_path / name, "--recipe", recipe, "--data-root", str(tmp_path))) == 0
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")


def test_a_probe_leaves_the_backbone_as_it_was_pretrained(pictures, tmp_path):
    assert main(command(pictures, tmp_path / "run", "--recipe", "probe", "--data-root", str(tmp_path))) == 0
    model, _ = load_model(tmp_path / "run" / "model.pt")
    pretrained = experiment.build_classifier("tiny_resnet", 2, weights="DEFAULT")
    for name, tensor in pretrained.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]) != name.startswith("fc."), name


def test_the_pocket_size_reads_digits_and_never_mirrors_them():
    settings = new_settings(parse(["train", "--recipe", "discriminative"]), processes=1)
    assert (settings.data, settings.model, settings.image_size, settings.augment) == (
        "digits",
        "tiny_resnet",
        32,
        "sign",
    )
    assert settings.rates == RATES["discriminative"]
    pictures = experiment.load_pictures(settings, ROOT / "data", progress=False)
    assert pictures.data.images.dtype == torch.uint8 and pictures.data.images.shape == (1797, 3, 32, 32)
    assert pictures.data.groups.bincount().tolist() == [906, 251, 640]


def test_the_full_size_runs_on_cifar10(tmp_path, monkeypatch, capsys):
    write_tiny_cifar10(tmp_path, monkeypatch, per_batch=4, test=5)
    get_model = torchvision.models.get_model
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: get_model(name, weights=None))
    options = [
        "--size",
        "full",
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--image-size",
        "64",
        "--data-root",
        str(tmp_path),
    ]
    assert main(["train", *options, "--out", str(tmp_path / "run")]) == 0
    assert "resnet50, recipe full, 64 pixels, 1 epochs" in capsys.readouterr().out
    model, class_names = load_model(tmp_path / "run" / "model.pt")
    assert model.fc.out_features == 10 and class_names[0] == "airplane" and model.input_spec.size == 64


@pytest.mark.parametrize("right, count, low, high", [(95, 100, 0.8882, 0.9785), (0, 10, 0, 0.2775), (5, 5, 0.5655, 1)])
def test_the_interval_is_wilsons(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-4)


# --- a run that was stopped -------------------------------------------------------------------------------------------


def test_killed_at_any_moment_it_goes_on_with_the_same_numbers(pictures, trained, tmp_path):
    run_dir = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-m", "course_utils", *command(pictures, run_dir, epochs=20)])
    while not (run_dir / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()  # SIGKILL
    process.wait()
    assert not (run_dir / "model.pt").exists()
    assert main(["train", "--out", str(run_dir), "--resume"]) == 0
    assert numbers(run_dir) == numbers(trained)
    logged, whole = (list(read_scalars(path)["loss/step"].steps) for path in (run_dir, trained))
    assert logged == whole[-len(logged) :]  # the event file lacks at most what waited in its last second


def test_ctrl_c_says_how_to_go_on_and_that_works(pictures, trained, tmp_path, monkeypatch, capsys):
    run_dir, evaluate, calls = tmp_path / "with a blank", experiment.fit.__globals__["evaluate"], []

    def stop_in_the_third_epoch(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setitem(experiment.fit.__globals__, "evaluate", stop_in_the_third_epoch)
        assert main(command(pictures, run_dir, epochs=20)) == 130
    said = capsys.readouterr().err
    assert "Stopped in epoch 3 of 20: epochs 1 to 2 are kept." in said
    line = said.partition("Go on with:\n")[2].splitlines()[0]
    if sys.platform != "win32":
        words = shlex.split(line)
        assert words[:3] == ["python", "-m", "course_utils"]
        assert main(words[3:]) == 0
        assert numbers(run_dir) == numbers(trained)


def test_a_complete_run_is_not_trained_again(trained, capsys):
    before = (trained / "model.pt").stat().st_mtime_ns
    assert main(["train", "--out", str(trained), "--resume"]) == 0
    assert "is complete" in capsys.readouterr().out and (trained / "model.pt").stat().st_mtime_ns == before


# --- two runs are never mixed -----------------------------------------------------------------------------------------


def refused(arguments, capsys):
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    return said


def test_a_second_run_takes_another_directory(trained, pictures, tmp_path, capsys):
    assert "holds a run already" in refused(command(pictures, trained), capsys)
    (tmp_path / "letter.txt").write_text("Dear ...")
    assert "holds something, and no run" in refused(command(pictures, tmp_path), capsys)


def test_a_resumed_run_keeps_its_settings_and_its_data(pictures, tmp_path, capsys):
    run_dir, copy = tmp_path / "run", tmp_path / "copy"
    for path in pictures.rglob("*.png"):
        (copy / path.parent.name).mkdir(parents=True, exist_ok=True)
        (copy / path.parent.name / path.name).write_bytes(path.read_bytes())
    assert main(command(copy, run_dir)) == 0
    resume = ["train", "--out", run_dir, "--resume"]
    assert "began with --epochs 2" in refused([*resume, "--epochs", "3"], capsys)
    assert "began with --data" in refused([*resume, "--data", pictures], capsys)
    (run_dir / "summary.json").unlink()  # as if it had been killed before its end
    assert main([str(word) for word in resume]) == 0
    (run_dir / "summary.json").unlink()
    (copy / "dark" / "00.png").unlink()
    assert "not those that" in refused(resume, capsys)


@pytest.mark.parametrize("content", ['{"editor.tabSize": 4}', "// not JSON", "[1]"])
def test_settings_of_another_program_are_left_alone(content, pictures, tmp_path, capsys):
    (tmp_path / "settings.json").write_text(content)
    for arguments in (command(pictures, tmp_path), ["train", "--out", tmp_path, "--resume"]):
        assert "settings.json is damaged, or another program's" in refused(arguments, capsys)
    assert (tmp_path / "settings.json").read_text() == content


def test_the_command_to_go_on_finds_the_data_again(pictures, trained, tmp_path, capsys):
    assert "--data-root" not in refused(command(pictures, trained), capsys)
    said = refused(command(pictures, trained, "--data-root", str(tmp_path)), capsys)
    assert f"--resume --data-root {tmp_path}" in said


def test_what_never_began_is_not_resumed(tmp_path, capsys):
    for run_dir in (tmp_path, tmp_path / "nothing"):
        assert "No training has begun" in refused(["train", "--out", run_dir, "--resume"], capsys)
    assert "No training has begun" in refused(["train", "--resume"], capsys)


def test_two_processes_cannot_train_into_one_directory(pictures, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):
        assert "Another process" in refused(command(pictures, tmp_path / "run"), capsys)


# --- what cannot work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, words",
    [
        (["--epochs", 0], "--epochs must be 1 or more"),
        (["--lr", -1], "--lr must be a positive number"),
        (["--image-size", 4], "--image-size must be 8 or more"),
        (["--model", "resnet5"], "Did you mean resnet50"),
        (["--model", "squeezenet1_1", "--recipe", "gradual"], "thaws the parts of a ResNet"),
        (["--data", "nowhere"], "no folder"),
        (["--seed", 2**64], "--seed must be below 4,294,967,296"),
        (["--recipe", "probe", "--augment", "sign"], "no --augment"),
        (["--lr", 1e12], "a smaller --lr than"),
    ],
)
def test_bad_options_are_said_in_words(pictures, tmp_path, options, words, monkeypatch, capsys):
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: getattr(torchvision.models, name)())
    assert words in refused([*command(pictures, tmp_path / "run"), *options], capsys)


def test_settings_of_several_processes_are_checked():
    settings = dict(data="digits", model="tiny_resnet", recipe="full", epochs=1, batch_size=64, image_size=32)
    more = dict(augment="none", lr=0.1, seed=0)
    Settings(**settings, **more, processes=2).check()
    with pytest.raises(ValueError, match="--batch-size 64 cannot be dealt out evenly to 3 processes: take 63"):
        Settings(**settings, **more, processes=3).check()
    with pytest.raises(ValueError, match="without torchrun"):
        Settings(**{**settings, "recipe": "probe"}, **more, processes=2).check()


def test_missing_weights_name_the_command_that_fetches_them(pictures, tmp_path, monkeypatch, capsys):
    get_model = torchvision.models.get_model

    def offline(name, weights):
        if weights is not None:
            raise URLError("no network")
        return get_model(name)

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    said = refused(command(pictures, tmp_path / "run", "--model", "resnet18"), capsys)
    assert "python -m course_utils prepare --only resnet18" in said


def test_missing_data_are_named(tmp_path, capsys):
    options = ["--size", "full", "--model", "tiny_resnet", "--data-root", tmp_path, "--out", tmp_path / "run"]
    assert "CIFAR-10" in refused(["train", *options], capsys)


# --- predict ----------------------------------------------------------------------------------------------------------


def test_predictions_of_files_and_folders_stand_in_a_table(trained, pictures, tmp_path, capsys):
    capsys.readouterr()
    one, folder = pictures / "light" / "00.png", pictures / "dark"
    assert main(["predict", str(trained), str(one), str(folder), "--csv", str(tmp_path / "p.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22 and lines[0].split()[:3] == ["picture", "class", "probability"]
    rows = table(tmp_path / "p.csv")
    assert [row["picture"] for row in rows[:2]] == [one.as_posix(), (folder / "00.png").as_posix()]
    assert all(abs(float(row["p(dark)"]) + float(row["p(light)"]) - 1) < 2e-4 for row in rows)
    assert all(row["class"] == max(("dark", "light"), key=lambda name: float(row[f"p({name})"])) for row in rows)
    right = [row["class"] == "dark" for row in rows[1:]]
    assert sum(right) >= 18


def test_the_test_score_is_that_of_predict(trained, pictures, tmp_path, capsys):
    """The pictures of the test part, read and predicted anew, give the accuracy of the summary."""
    saved = json.loads((trained / "settings.json").read_text())["settings"]
    read = experiment.load_pictures(Settings(**saved), tmp_path, progress=False)
    tested = [name for name, part in zip(read.names, read.data.groups, strict=True) if part == experiment.TEST]
    files = [str(pictures / name) for name in tested]
    assert main(["predict", str(trained / "model.pt"), *files, "--csv", str(tmp_path / "p.csv")]) == 0
    wrong = {
        name for name, row in zip(tested, table(tmp_path / "p.csv"), strict=True) if row["class"] != name.split("/")[0]
    }
    assert wrong == {row["picture"] for row in table(trained / "mistakes.csv")}


def test_what_cannot_be_read_is_named_and_the_rest_predicted(trained, pictures, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    capsys.readouterr()
    arguments = ["predict", str(trained), str(tmp_path / "broken.jpg"), str(pictures / "dark" / "00.png")]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "broken.jpg: no picture" in said.err and "00.png" in said.out
    assert main(arguments[:3]) == 1


def test_predict_refuses_what_is_no_run(trained, tmp_path, pictures, capsys):
    picture = pictures / "dark" / "00.png"
    assert "There is no run" in refused(["predict", tmp_path / "none", picture], capsys)
    assert "--resume" in refused(["predict", tmp_path, picture], capsys)
    (tmp_path / "empty").mkdir()
    assert "There is no picture" in refused(["predict", trained, tmp_path / "empty"], capsys)
    (tmp_path / "cut.pt").write_bytes((trained / "model.pt").read_bytes()[:5000])
    assert "damaged" in refused(["predict", tmp_path / "cut.pt", picture], capsys)


def test_a_forgotten_name_of_the_table_costs_no_picture(trained, pictures, tmp_path, capsys):
    picture = tmp_path / "mine.PNG"
    picture.write_bytes((pictures / "dark" / "00.png").read_bytes())
    assert "over the picture" in refused(["predict", trained, pictures / "light", "--csv", picture], capsys)
    assert picture.read_bytes() == (pictures / "dark" / "00.png").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every file's name is valid text")
def test_names_that_are_no_valid_text_do_not_end_a_training(pictures, tmp_path, capsys):
    """As a zip with Chinese names from Windows leaves them on Linux."""
    folder, run_dir = tmp_path / "pictures", tmp_path / "run"
    for i, name in enumerate(("猫", "狗")):
        class_folder = folder / os.fsdecode(name.encode("gbk"))
        class_folder.mkdir(parents=True)
        for j in range(20):  # classes that say nothing of the picture, so that there are mistakes to write down
            shutil.copy(pictures / ("dark", "light")[(i + j) % 2] / f"{j:02}.png", class_folder)
    arguments = ["--recipe", "probe", "--data-root", str(tmp_path)]
    assert main(command(folder, run_dir, *arguments)) == 0
    assert (run_dir / "summary.json").exists() and table(run_dir / "mistakes.csv")
    assert main(["predict", str(run_dir), str(folder), "--csv", str(tmp_path / "p.csv")]) == 0
    assert len(table(tmp_path / "p.csv")) == 40


class Malicious:
    def __reduce__(self):
        return exec, ("raise SystemExit('this code ran')",)


def test_no_code_in_a_model_file_is_run(tmp_path, pictures, capsys):
    torch.save({"model": Malicious()}, tmp_path / "evil.pt")
    assert "damaged" in refused(["predict", tmp_path / "evil.pt", pictures / "dark" / "00.png"], capsys)
