"""Notebook 04: it calls what it promises, with and without the optional packages; its exercises rest on real runs."""

import contextlib
import inspect
import io
import os
import re
import shutil
import sys
import time
from pathlib import Path

import nbformat
import pytest
import tensorboard.notebook
import torch
import torch.nn as nn
from tensorboardX import SummaryWriter

from course_utils.data import few_labels, load_digits_rgb, make_loader, random_affine, split_by_group
from course_utils.device import seed_everything
from course_utils.exercises.tensorboard import ANSWERS, CURVES, SHOWS, lowest, write_runs
from course_utils.models import build_classifier, parameter_groups
from course_utils.tracking import read_scalars
from course_utils.training import fit

OPTIONAL = ("soundfile", "moviepy", "onnx", "onnxscript")
NOTEBOOKS = sorted(path.name for path in (Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
METHODS = [name for name, _ in inspect.getmembers(SummaryWriter, inspect.isfunction) if not name.startswith("_")]


@pytest.fixture(scope="module")
def notebook(root):
    return nbformat.read(root / "notebooks" / "04_tensorboardx_visualization.ipynb", as_version=4)


def cells(notebook, tag):
    return [cell.source for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def text_of(notebook, kind):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == kind)


# --- what it promises -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_each_method_of_the_writer_is_called(notebook, method):
    # One needs a network in Intel's format, one writes a wrong time, and two are calls that `with` makes.
    if method in ("add_openvino_graph", "use_metadata", "flush", "close"):
        assert f"`{method}" in text_of(notebook, "markdown")
    else:
        assert re.search(rf"writer\.{method}\(", text_of(notebook, "code"))


def test_each_view_has_its_question_and_what_healthy_and_sick_look_like(notebook):
    heads = re.findall(r"^\| it answers \| healthy \| sick \|$", text_of(notebook, "markdown"), re.MULTILINE)
    sections = re.findall(r"^## (?:[3-9]|1[0-5])\. ", text_of(notebook, "markdown"), re.MULTILINE)
    assert len(heads) == len(sections) == 13


def test_the_views_that_exercise_2_speaks_of_exist():
    assert set(SHOWS) <= set(METHODS)
    assert all(method in SHOWS for methods, _ in ANSWERS.values() for method in methods)


# --- with the optional packages and without -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(notebook, tmp_path_factory):
    """The names that the notebook has defined when its training is over, in a folder of the test's own."""
    names = {}
    with contextlib.chdir(tmp_path_factory.mktemp("notebooks")), contextlib.redirect_stdout(io.StringIO()):
        for source in cells(notebook, "base"):
            exec(source, names)
        names["HOME"] = Path.cwd()
    return names


@pytest.fixture
def run_views(notebook, trained, tmp_path, monkeypatch):
    """A function: runs the cells that need a package, in a folder of runs of its own, and returns what they print."""
    shutil.copytree(trained["HOME"] / trained["RUNS"] / "training", tmp_path / "training")
    monkeypatch.setitem(trained, "RUNS", tmp_path)

    def run() -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            for source in cells(notebook, "views"):
                exec(source, trained)
        return printed.getvalue()

    return run


def test_without_the_packages_it_says_what_it_leaves_out(run_views, tmp_path, monkeypatch):
    for package in OPTIONAL:
        monkeypatch.setitem(sys.modules, package, None)
    printed = run_views()
    assert "Left out: the ONNX graph. Missing: onnx, onnxscript." in printed
    assert "Left out: audio. Missing: soundfile." in printed
    assert "Left out: video. Missing: moviepy." in printed
    assert [path.name for path in tmp_path.iterdir()] == ["training"]


def test_one_missing_package_costs_its_own_view_alone(run_views, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy", None)
    assert "Missing: moviepy." in run_views()
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"training", "audio", "onnx_graph"}


def test_with_the_packages_the_views_are_in_the_files(run_views, trained):
    printed = run_views()
    assert "ONNX graph" not in printed and "audio" not in printed
    events = trained["events"]
    assert sorted(events("audio").Tags()["audio"]) == ["loss_as_sound/pretrained", "loss_as_sound/scratch"]
    operations = [node.op for node in events("onnx_graph").Graph().node]
    assert operations.count("Conv") == 12 and not [op for op in operations if "Norm" in op]


def test_with_moviepy_the_film_is_in_the_file(run_views, trained):
    pytest.importorskip("moviepy", reason="the course does not install it, since it forbids Pillow 12 and newer")
    assert "GIF: " in run_views()
    assert trained["events"]("video").Images("confusion/by_epoch")[0].encoded_image_string.startswith(b"GIF8")


# --- the time of an event ---------------------------------------------------------------------------------------------


def test_the_histograms_of_the_notebook_carry_the_time_at_which_they_were_written(notebook, trained, tmp_path):
    (source,) = [c.source for c in notebook.cells if c.cell_type == "code" and 'RUNS / "histograms") as' in c.source]
    begun = time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(trained, "RUNS", tmp_path)
        exec(source, trained)
        stored = trained["events"]("histograms")
    histograms = [event for tag in stored.Tags()["histograms"] for event in stored.Histograms(tag)]
    assert {event.step for event in histograms} == set(trained["kept"])
    assert all(begun - 1 < event.wall_time < time.time() + 1 for event in histograms)


def test_use_metadata_writes_the_year_1970_as_the_notebook_says(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer, writer.use_metadata(global_step=3):
        writer.add_scalar("loss", 1.0)
    run = read_scalars(tmp_path)["loss"]
    assert (run.steps.tolist(), run.wall_times.tolist()) == ([3], [0.0])


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_notebook_calls_it(root, name):
    assert "use_metadata(" not in text_of(nbformat.read(root / "notebooks" / name, as_version=4), "code")


# --- what it says of places -----------------------------------------------------------------------------------------


def test_behind_a_hub_the_frame_goes_through_the_proxy(notebook, monkeypatch):
    """The line of the notebook's table for JupyterHub, with what TensorBoard makes of it."""
    line = re.search(r"`(os\.environ\[\"TENSORBOARD_PROXY_URL\"\] = [^`]+)`", text_of(notebook, "markdown"))[1]
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    monkeypatch.setenv("TENSORBOARD_PROXY_URL", "")  # so that it is put back afterwards
    exec(line, {"os": os})
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    tensorboard.notebook._display_ipython(port=16006, height=800, display_handle=None)
    assert '"/user/ada/proxy/16006/"' in shown[0].data


# --- the runs of exercise 1 -----------------------------------------------------------------------------------------


def test_the_runs_are_written_as_they_stand_and_never_over_others(tmp_path):
    write_runs(tmp_path)
    for name, (train, val) in CURVES.items():
        run = read_scalars(tmp_path / name)
        assert run["loss/train"].steps.tolist() == run["loss/val"].steps.tolist() == list(range(4, 84, 4))
        assert run["loss/train"].values == pytest.approx([loss / 1000 for loss in train])
        assert run["loss/val"].values == pytest.approx([loss / 1000 for loss in val])
    with pytest.raises(FileExistsError, match="holds a run already"):
        write_runs(tmp_path)


def test_one_run_over_fits_one_is_healthy_one_is_slow():
    ends = {name: (train[-1], val[-1], min(val)) for name, (train, val) in CURVES.items()}
    assert ends["B"][1] > 1.5 * ends["B"][2] and ends["B"][0] < 0.1 * ends["B"][1]
    assert ends["A"][1] < 1.05 * ends["A"][2]
    assert ends["C"][1] == ends["C"][2] and abs(ends["C"][0] - ends["C"][1]) < 0.1 * ends["C"][1]
    assert lowest("B") < lowest("B", smoothing=0.6) < lowest("B", smoothing=0.9)


RECIPES = {  # learning rates of head and backbone, share of wrong labels, augmentation
    "A": (1e-2, 1e-3, 0.0, random_affine),
    "B": (1e-2, 1e-3, 0.2, None),
    "C": (1e-4, 1e-4, 0.0, random_affine),
}


@pytest.mark.parametrize("name", CURVES)
def test_the_stored_curves_are_real(name):
    head, backbone, noise, augment = RECIPES[name]
    data = load_digits_rgb()
    split = split_by_group(data.groups, val=(7, 8), test=(9, 10, 11, 12, 13))
    seed_everything(0)
    chosen = few_labels(data.labels, split.train, per_class=20, seed=0)
    labels, generator = data.labels[chosen].clone(), torch.Generator().manual_seed(0)
    wrong = torch.randperm(len(labels), generator=generator)[: int(noise * len(labels))]
    labels[wrong] = (labels[wrong] + torch.randint(1, 10, (len(wrong),), generator=generator)) % 10
    model = build_classifier("tiny_resnet", 10, weights="DEFAULT")
    history = fit(
        model,
        make_loader(data.images[chosen], labels, batch_size=50, shuffle=True, seed=0, augment=augment),
        make_loader(data.images[split.val], data.labels[split.val], batch_size=256),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(parameter_groups(model, {"fc": head}, default_lr=backbone)),
        device="cpu",
        epochs=20,
        progress=False,
    )
    train, val = ([loss / 1000 for loss in curve] for curve in CURVES[name])
    # Other processors round otherwise, and a training carries that on; the shape of the curves stays.
    assert history["train_loss"] == pytest.approx(train, rel=0.3, abs=0.06)
    assert history["val_loss"] == pytest.approx(val, rel=0.3, abs=0.06)
    if name == "B":
        lowest_at = history["step"][history["val_loss"].index(min(history["val_loss"]))]
        assert abs(lowest_at - lowest("B")) <= 4
