"""The clinic: every patient shows what it has, no healthy run does, and each wrong diagnosis is refuted."""

import contextlib
import inspect
import math
import re
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from course_utils import clinic
from course_utils.__main__ import main
from course_utils.board import serve
from course_utils.clinic import faults
from course_utils.clinic.charts import describe
from course_utils.clinic.diagnoses import number
from course_utils.clinic.patients import HEALTHY_SEEDS, SHIPPED_SEEDS, signs_of
from course_utils.clinic.signs import sawtooth
from course_utils.clinic.ward import Monitor
from course_utils.commands.clinic import measure, runs_of
from course_utils.data import make_loader
from course_utils.events import read_scalars
from course_utils.exercises.clinic import opinion_on
from course_utils.files import load_results
from course_utils.tracking import RunLogger
from course_utils.training import fit

each_patient = pytest.mark.parametrize("patient", clinic.PATIENTS.values(), ids=clinic.PATIENTS)
HEALTHY = {row["seed"]: row for row in clinic.healthy_rows()}
ROWS = {row["run"]: row for row in load_results("runs", clinic.CLINIC)}


def fitting(found) -> list[str]:
    return [opinion.diagnosis for opinion in clinic.walk(found) if opinion.verdict == "fits"]


# --- the logs that ship ---------------------------------------------------------------------------------------------


@each_patient
def test_a_patient_shows_its_own_signs_and_no_others(patient):
    expected = [patient.diagnosis] if clinic.DIAGNOSES[patient.diagnosis].conditions else []
    assert fitting(clinic.signs(patient.sick_run, 10)) == expected
    assert fitting(clinic.signs(patient.healed_run, 10)) == []


@each_patient
def test_sick_and_healed_differ_in_the_fault_alone(patient):
    assert issubclass(patient.sick, clinic.Training) and patient.sick is not patient.healed
    assert issubclass(patient.sick, patient.healed)
    assert patient.cause and patient.card and patient.look


def test_no_diagnosis_fits_a_healthy_seed():
    assert set(HEALTHY) == set(HEALTHY_SEEDS) and len(HEALTHY) >= 20
    for row in HEALTHY.values():
        assert fitting(row) == []
    for seed in SHIPPED_SEEDS:
        assert fitting(clinic.signs(clinic.CLINIC / "healthy" / f"seed-{seed:02}", 10)) == []


@pytest.mark.parametrize("name", [name for name, diagnosis in clinic.DIAGNOSES.items() if diagnosis.conditions])
def test_a_diagnosis_has_a_threshold_that_keeps_its_distance_from_every_healthy_seed(name):
    """One condition at least fails in all healthy runs, and the patient lies beyond them by more than their spread.

    Signs that are positive throughout are compared as logarithms: they are ratios and sizes.
    """
    (patient,) = [patient for patient in clinic.PATIENTS.values() if patient.diagnosis == name]
    apart = []
    for sign, side, threshold in clinic.DIAGNOSES[name].conditions:
        values = np.array([row[sign] for row in HEALTHY.values()])
        scale = (lambda value: np.log(np.maximum(value, 1e-9))) if values.min() > 0 else np.asarray
        beyond = 1 if side == "above" else -1
        nearest, spread = (beyond * scale(values)).max(), scale(values).std(ddof=1)
        sick, limit = beyond * scale(signs_of(patient.name)[sign]), beyond * scale(threshold)
        apart.append(limit - nearest > spread / 2 and sick - nearest > spread)
    assert any(apart)


def test_the_rows_are_those_of_the_logs():
    for run_name, row in ROWS.items():
        if (clinic.CLINIC / run_name).is_dir():
            for sign, value in clinic.signs(clinic.CLINIC / run_name, 10).items():
                assert row[sign] == pytest.approx(value, rel=1e-3, abs=1e-6, nan_ok=True), (run_name, sign)


def test_the_logs_are_small_few_and_nameless():
    files = [path for path in clinic.CLINIC.rglob("*") if path.is_file() and path.suffix != ".csv"]
    assert len(files) == 2 * len(clinic.PATIENTS) + len(SHIPPED_SEEDS)
    assert {path.name for path in files} == {"events.out.tfevents.run"}
    assert sum(path.stat().st_size for path in files) < 4_000_000
    words = {word for name in clinic.DIAGNOSES for word in re.findall(r"\w+", name.lower())}
    for patient in clinic.PATIENTS.values():
        assert re.fullmatch("[a-z]{3,5}", patient.name) and patient.name not in words


def test_there_are_enough_patients_and_each_diagnosis_has_one():
    assert len(clinic.PATIENTS) >= 14
    assert sorted(patient.diagnosis for patient in clinic.PATIENTS.values()) == sorted(clinic.DIAGNOSES)
    assert len({patient.seed for patient in clinic.PATIENTS.values()}) == len(clinic.PATIENTS)


def test_tensorboard_opens_them_side_by_side_and_shows_five_points_of_pia():
    with serve(clinic.CLINIC) as board:
        tags = board.get_when_read("data/plugin/scalars/tags", experiment="")
        expected = {f"{name}/{run}" for name in clinic.PATIENTS for run in ("sick", "healed")}
        assert expected <= set(tags) and "healthy/seed-00" in tags
        points = {
            run: len(board.get_when_read("data/plugin/scalars/scalars", run=f"pia/{run}", tag="loss/step"))
            for run in ("sick", "healed")
        }
    assert points["healed"] == 60
    assert points["sick"] in (5, 60)  # 60 with the older loader, which draws them over each other
    assert len(read_scalars(clinic.PATIENTS["pia"].sick_run)["loss/step"].steps) == 60


# --- what no curve shows --------------------------------------------------------------------------------------------


def test_the_leak_is_seen_by_counting_and_on_fresh_forms():
    assert clinic.reveal_leak() > 200  # of 250
    assert ROWS["ivo/sick"]["val_accuracy"] - ROWS["ivo/sick"]["accuracy_fresh"] > 0.01
    assert abs(ROWS["ivo/healed"]["val_accuracy"] - ROWS["ivo/healed"]["accuracy_fresh"]) < 0.03


def test_the_chosen_seed_is_no_better_than_the_others_where_it_had_no_say():
    reveal = clinic.reveal_choice()
    fresh = [row["accuracy_fresh"] for row in HEALTHY.values()]
    assert reveal["reported"] == max(row["accuracy_form7"] for row in HEALTHY.values())
    assert reveal["reported"] == pytest.approx(signs_of("rosa")["val_accuracy"], abs=1e-4)
    assert reveal["reported"] - reveal["chosen seed, fresh forms"] > 2 * np.std(fresh, ddof=1)
    assert reveal["chosen seed, fresh forms"] < np.mean(fresh) + np.std(fresh, ddof=1)


def test_pixels_that_are_never_normalised_do_no_harm_here():
    fresh = [row["accuracy_fresh"] for row in HEALTHY.values()]
    assert min(fresh) - 0.01 < ROWS["lea/sick"]["accuracy_fresh"] < max(fresh) + 0.01


# --- diagnoses ------------------------------------------------------------------------------------------------------


@each_patient
def test_every_wrong_diagnosis_is_refuted_in_words_of_its_own(patient):
    refuted = clinic.wrong_diagnoses(patient.name)
    assert set(refuted) == set(clinic.DIAGNOSES) - {patient.diagnosis}
    assert len(set(refuted.values())) == len(refuted)
    for diagnosis, text in refuted.items():
        assert len(text) > 60 and "{" not in text and text.endswith(".")
        assert not clinic.diagnose(patient.name, diagnosis).right
        assert patient.cause not in text
    verdict = clinic.diagnose(patient.name, patient.diagnosis)
    assert verdict.right and patient.cause in verdict.text and verdict.text not in refuted.values()


def test_evidence_is_that_of_the_patients_own_curves():
    text = clinic.diagnose("gus", "over-fitting").text
    rise = number(signs_of("gus")["val_loss_rise"])
    low, high = (number(value) for value in clinic.healthy_ranges()["val_loss_rise"])
    assert f"the lowest: {rise}. It would have to be above 1.15; healthy runs have {low} to {high}" in text


def test_unknown_names_are_answered_with_those_that_there_are():
    with pytest.raises(ValueError, match="There are: ada, ben"):
        clinic.diagnose("bob", "dead layer")
    with pytest.raises(ValueError, match="There are: step restarts"):
        clinic.diagnose("ada", "flu")


# --- any run --------------------------------------------------------------------------------------------------------


def small_run(folder, *, rate=0.05, softmax=False, log_val=True):
    """A run that the clinic has never seen: a linear model on 3 classes of points, logged by `fit` alone."""
    from course_utils.tracking import RunLogger

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(40)
    images = torch.randn(120, 3, 2, 2, generator=generator) + 2 * F.one_hot(labels).float()[:, :, None, None]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), *([nn.Softmax(dim=1)] if softmax else []))
    loader = make_loader(images, labels, batch_size=20, shuffle=True)
    with RunLogger(folder) as logger:
        fit(
            model,
            loader,
            make_loader(images, labels, batch_size=60) if log_val else None,
            loss_fn=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD(model.parameters(), lr=rate),
            device="cpu",
            epochs=8,
            logger=logger,
            progress=False,
        )
    return clinic.signs(folder, 3)


def test_a_run_that_the_clinic_has_never_seen_goes_through_the_chart(tmp_path):
    found = small_run(tmp_path / "run")
    assert set(found) == set(clinic.MEANING)
    assert abs(found["first_loss_excess"]) < 1 and found["first_loss"] == pytest.approx(
        found["first_loss_excess"] + math.log(3)
    )
    assert math.isnan(found["drift"]) and math.isnan(found["val_accuracy"])
    opinions = {opinion.diagnosis: opinion for opinion in clinic.walk(found)}
    assert list(opinions) == list(clinic.DIAGNOSES)
    assert opinions["dead layer"].verdict == "not measured"
    assert opinions["chosen on the test set"].verdict == "in no curve"
    assert opinions["step restarts"].verdict == opinions["gradient explodes"].verdict == "ruled out"
    assert not fitting(found)


def test_a_run_without_validation_is_measured_too(tmp_path):
    found = small_run(tmp_path / "run", log_val=False)
    assert math.isnan(found["val_loss"]) and found["train_loss"] < found["first_loss"]


def test_a_directory_without_a_log_and_a_wrong_number_of_classes_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        clinic.signs(tmp_path, 10)
    with pytest.raises(ValueError, match="num_classes"):
        clinic.signs(tmp_path, 1)


def test_the_sawtooth_is_seen_whatever_the_slope():
    noise = np.random.default_rng(0).normal(0, 0.05, 60)
    falling = np.exp(-np.arange(60) / 20 + noise)
    teeth = falling * np.tile([1.0, 1.5, 0.7, 1.2, 0.9], 12)
    assert sawtooth(falling, 5) < 0.5 and sawtooth(teeth, 5) > 0.9
    assert math.isnan(sawtooth(falling[:10], 5)) and math.isnan(sawtooth(falling, 1))


# --- made again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ada", "hana", "nia", "sam", "lea"])
def test_a_patient_made_again_has_the_same_symptom(name):
    row, log = measure(f"{name}/sick", runs_of(name)[f"{name}/sick"])
    assert fitting(row) == [clinic.PATIENTS[name].diagnosis]
    stored = ROWS[f"{name}/sick"]
    assert row["accuracy_fresh"] == pytest.approx(stored["accuracy_fresh"], abs=0.03)
    assert row["train_loss"] == pytest.approx(stored["train_loss"], abs=0.1)
    assert log


@pytest.mark.parametrize("seed", [3, 11, 60])
def test_a_healthy_seed_made_again_is_as_healthy(seed):
    row, _ = measure("again", clinic.Training(seed))
    assert fitting(row) == []
    if seed in HEALTHY:
        assert row["accuracy_fresh"] == pytest.approx(HEALTHY[seed]["accuracy_fresh"], abs=0.03)
        assert row["gradient_first"] == pytest.approx(HEALTHY[seed]["gradient_first"], rel=0.05)


def test_the_command_lists_and_makes_again_where_it_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(faults.BatchNormDrifts, "epochs", 4)
    monkeypatch.setattr(faults.HeadOnly, "epochs", 4)
    assert main(["clinic"]) == 0
    listed = capsys.readouterr().out
    assert all(patient.name in listed and patient.card in listed for patient in clinic.PATIENTS.values())
    assert not any(diagnosis in listed for diagnosis in clinic.DIAGNOSES if diagnosis not in ("over-fitting",))
    assert main(["clinic", "--remake", "hana", "--out", str(tmp_path)]) == 0
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["hana/healed/events.out.tfevents.run", "hana/sick/events.out.tfevents.run", "runs.csv"]
    assert [row["run"] for row in load_results("runs", tmp_path)] == ["hana/healed", "hana/sick"]
    assert main(["clinic", "--remake", "bob", "--out", str(tmp_path)]) == 1
    assert "There is no patient 'bob'" in capsys.readouterr().err


# --- the notebook, its pictures and its checks ----------------------------------------------------------------------


def test_the_chart_asks_for_every_diagnosis_once_and_in_order():
    assert [name for names in clinic.QUESTIONS.values() for name in names] == list(clinic.DIAGNOSES)
    assert list(clinic.CHART) == list(clinic.DIAGNOSES)
    assert all(len(cells) == 3 and all(cells) for cells in clinic.CHART.values())


@each_patient
def test_the_notebook_tells_cause_and_cure_of_each_patient_after_its_check(patient):
    path = Path(__file__).parent.parent / "notebooks" / "05_diagnosing_training.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    check = f'exercises.clinic.examine("{patient.name}", diagnosis=...)'
    (at,) = [i for i, cell in enumerate(cells) if check in cell.source]
    told = re.sub(r"\[([^]]+)\]\(\.\./docs/glossary\.md#[^)]+\)", r"\1", " ".join(cells[at + 1].source.split()))
    assert told.startswith("<details>")
    for text in (patient.cause, clinic.DIAGNOSES[patient.diagnosis].cure, inspect.getsource(patient.sick)):
        assert " ".join(text.split()) in told
    assert patient.card in " ".join(cells[at - 1].source.split())
    assert "NO ANSWER YET" in str(cells[at].outputs)


@each_patient
def test_a_check_answers_right_and_wrong_diagnoses(patient):
    assert opinion_on(patient.name, patient.diagnosis).verdict == "RIGHT"
    for diagnosis, text in clinic.wrong_diagnoses(patient.name).items():
        reply = opinion_on(patient.name, diagnosis)
        assert reply.verdict == "NOT YET" and reply.text == text
    assert opinion_on(patient.name, ...).verdict == "NO ANSWER YET"


def test_a_diagnosis_that_is_misspelt_is_named():
    assert "Did you mean `dead layer`?" in opinion_on("ada", "dead layr").text
    assert "list(clinic.DIAGNOSES)" in opinion_on("ada", 7).text
    with pytest.raises(ValueError, match="There is no patient 'zoe'"):
        opinion_on("zoe", "dead layer")


def test_a_patient_is_shown_in_curves_and_in_words():
    figure = clinic.plot_patient("ada")
    assert [ax.get_title() for ax in figure.axes][:2] == ["loss of each step", "validation loss"]
    assert len(figure.axes[0].lines) == 2  # sick and healed
    plt.close(figure)
    assert "validation accuracy from 0.0916 to 0.104, healthy runs end at 0.9" in describe("ada")
    assert "up to step 5." in clinic.bedside(clinic.PATIENTS["pia"].sick_run)
    assert "channels that are always 0: 100%" in clinic.bedside(clinic.PATIENTS["nia"].sick_run)


# --- the monitor ----------------------------------------------------------------------------------------------------


class Kept:
    """A logger that keeps the values of the last epoch."""

    def log_scalars(self, values, step):
        if "accuracy/worst_class" in values:
            self.values = values

    def purge_from(self, step):
        pass


def monitored(classes, never, labels=None, loss_fn=None):
    """A training of one step with a model that is right but for the classes `never`; its monitor's last values.

    Inputs are one-hot images of the class; the model's weights are the identity without the rows of `never`.
    """
    labels = torch.arange(classes).repeat(3) if labels is None else labels
    images = F.one_hot(labels.clamp(0, classes - 1), classes).float()[:, :, None, None]
    model = nn.Sequential(nn.BatchNorm2d(classes))
    model.avgpool, model.flatten, model.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(classes, classes)
    nn.init.eye_(model.fc.weight), nn.init.zeros_(model.fc.bias)
    model.fc.weight.data[never] = -1.0
    optimizer, kept = torch.optim.SGD(model.parameters(), lr=1e-9), Kept()
    loader = DataLoader(TensorDataset(images, labels), batch_size=len(labels))
    with Monitor(kept, model, optimizer, labels) as monitor:
        fit(
            model, loader, loader, loss_fn=loss_fn or nn.CrossEntropyLoss(), optimizer=optimizer, device="cpu",
            epochs=1, logger=monitor, progress=False,
        )  # fmt: skip
    return kept.values["accuracy/worst_class"]


def test_the_monitor_looks_at_every_class_of_the_task_and_at_no_others():
    assert monitored(12, never=[11]) == 0 and monitored(12, never=[]) == 1
    assert monitored(3, never=[0]) == 0 and monitored(3, never=[]) == 1
    some = torch.tensor([0, 1, 2, 4])  # of six classes; 3 and 5 are not among the validation images
    assert monitored(6, never=[3, 5], labels=some) == 1 and monitored(6, never=[4], labels=some) == 0
    ignored = torch.tensor([0, 1, 2, 255])
    assert monitored(3, never=[], labels=ignored, loss_fn=nn.CrossEntropyLoss(ignore_index=255)) == 1


@pytest.mark.parametrize("ends", ["well", "diverges", "is interrupted"])
def test_after_a_training_no_hook_of_the_monitor_is_left(tmp_path, ends):
    class Short(clinic.Training):
        epochs = 1

        def model(self):
            self.trained = super().model()
            return self.trained

        def optimizer(self, model):
            self.stepper = super().optimizer(model)
            return self.stepper

        def loss(self, outputs, targets):
            if ends == "is interrupted":
                raise KeyboardInterrupt
            return super().loss(outputs, targets) * (math.nan if ends == "diverges" else 1)

    training = Short(0)
    with pytest.raises(KeyboardInterrupt) if ends == "is interrupted" else contextlib.nullcontext():
        training.run(tmp_path)
    modules = [training.trained, training.trained.avgpool]
    assert not any(module._forward_hooks for module in modules)
    assert not training.stepper._optimizer_step_pre_hooks and not training.stepper._optimizer_step_post_hooks


def test_a_log_without_the_monitor_is_told_what_it_lacks(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        logger.log_scalars({"loss/step": 1.0}, 1)
    with pytest.raises(ValueError, match="lacks input/val_mean, relu/dead"):
        clinic.bedside(tmp_path / "run")
