"""The stored results are what the code measures: some entries of each are computed again."""

import csv

import pytest

from course_utils.clinic import remedies
from course_utils.commands.grid import GRIDS, rows_of
from course_utils.exercises import over_fitting
from course_utils.files import RESULTS, load_results

# Other processors round differently, and some hundred steps carry a difference into the third digit: of 640 test images
# a dozen may fall differently. An error in the code moves far more.
TOLERANCE = {"accuracy": 0.03, "val_accuracy": 0.04, "digits": 0.04, "letters": 0.06, "layer4_change": 0.03}
AGAIN = {
    "fine_tuning": [
        dict(recipe="scratch", freeze_batch_norm=1, labels_per_class=20, seed=4),
        dict(recipe="probe", freeze_batch_norm=0, labels_per_class=5, seed=2),
        dict(recipe="gradual", freeze_batch_norm=1, labels_per_class=5, seed=7),
        dict(recipe="svm", freeze_batch_norm=1, labels_per_class=1, seed=9),
    ],
    "other_writers": [dict(recipe="gradual", labels_per_class=5, fold=3, seed=1)],
    "steps": [dict(recipe="full", labels_per_class=20, total_steps=180, seed=3)],
    "learning_rates": [dict(rate=0.003, labels_per_class=10, seed=2)],
    "batch_norm": [dict(batch_size=16, batch_norm="frozen", labels_per_class=10, seed=3)],
    "remedies": [
        dict(situation="50 labels", remedy="head first (LP-FT)", seed=4),
        dict(situation="200 labels, 4 in 10 wrong", remedy="label smoothing", seed=1),
    ],
    "splits": [dict(way="at random", seed=5), dict(way="copies split at random", seed=1)],
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_whole_each_entry_once(name):
    rows, tasks = load_results(name), list(GRIDS[name][0]())
    keys = [tuple(row[column] for column in tasks[0]) for row in rows]
    assert set(keys) == {tuple(task.values()) for task in tasks}
    extra = [column for column in rows[0] if column not in tasks[0] and column not in TOLERANCE]
    whole = [(*key, *(row[column] for column in extra)) for key, row in zip(keys, rows, strict=True)]
    assert len(whole) == len(set(whole))
    assert all(
        0 <= row[column] <= 1 for row in rows for column in TOLERANCE if "change" not in column and column in row
    )


@pytest.mark.parametrize(("name", "task"), [(name, task) for name, tasks in AGAIN.items() for task in tasks])
def test_an_entry_computed_again_is_the_stored_one(name, task):
    stored = [row for row in load_results(name) if all(row[column] == value for column, value in task.items())]
    again = rows_of(name, task)
    assert len(again) == len(stored)
    for new, old in zip(again, stored, strict=True):
        measured = [column for column in new if column in TOLERANCE]
        assert {column: new[column] for column in new if column not in measured} == {
            column: old[column] for column in old if column not in measured
        }
        # early in a training a curve is steep, and a small difference is a large one for a few steps
        loose = 3 if name == "steps" and new["step"] < 30 else 1
        for column in measured:
            assert new[column] == pytest.approx(old[column], abs=loose * TOLERANCE[column]), (column, new, old)


def test_an_entry_of_another_recipe_would_be_noticed():
    """The tolerance is tight enough to tell two recipes apart."""
    rows = load_results("fine_tuning")
    key = dict(freeze_batch_norm=1, labels_per_class=5, seed=7)
    scratch, gradual = (
        next(row["accuracy"] for row in rows if row["recipe"] == recipe and key.items() <= row.items())
        for recipe in ("scratch", "gradual")
    )
    assert abs(scratch - gradual) > TOLERANCE["accuracy"]


def test_what_a_step_keeps_in_memory_is_counted_anew():
    """Bytes do not depend on the machine; the times beside them do, and are compared nowhere."""
    rows = {(row["changed"], row["value"]): row for row in load_results("costs")}
    for changed, value in (("batch", 32), ("resolution", 48), ("layers that train", "from layer4 on")):
        (again,) = rows_of("costs", dict(changed=changed, value=value))
        assert again["megabytes"] == pytest.approx(rows[changed, value]["megabytes"], rel=0.02)
    assert rows["batch", 64]["megabytes"] == pytest.approx(2 * rows["batch", 32]["megabytes"], rel=0.01)
    assert rows["batch", 32]["megabytes"] == pytest.approx(over_fitting.MEASURED, rel=0.01)
    assert rows["layers that train", "head"]["megabytes"] < 0.1


def test_a_remedy_that_is_unknown_is_an_error():
    with pytest.raises(ValueError, match="There is no remedy 'hope'.*augmentation"):
        remedies.train_with("hope", "50 labels", seed=0)
    with pytest.raises(ValueError, match="There is no situation"):
        remedies.train_with("nothing", "no labels", seed=0)


def test_the_stored_files_are_small_and_plain():
    for path in RESULTS.glob("*.csv"):
        content = path.read_bytes()
        assert len(content) < 200_000
        assert b"\r" not in content
        assert len({len(row) for row in csv.reader(content.decode().splitlines())}) == 1
