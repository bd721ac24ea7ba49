"""The stored results of notebook 08 are what the code measures, and say what the notebook says of them."""

import pytest

from course_utils.beyond.attacks import STARTS
from course_utils.beyond.efficient import METHODS
from course_utils.commands.grid import GRIDS, rows_of
from course_utils.files import load_results

# Other processors round differently, and 60 steps carry that into the third digit; see test_grid.py. Of the attacked
# images there are 320, and an attack of twenty steps widens a difference.
AGAIN = {
    "less_to_train": [
        (dict(method="lora", rank=4, labels_per_class=20, seed=3), 0.03),
        (dict(method="batch norm", rank=0, labels_per_class=5, seed=1), 0.03),
    ],
    "robustness": [(dict(start="pretrained", trained_with=0, labels_per_class=20, seed=2), 0.06)],
}
SLOW = {"robustness": [(dict(start="scratch", trained_with=16, labels_per_class=20, seed=1), 0.06)]}


def cases(by_grid: dict):
    entries = [(name, *entry) for name, entries in by_grid.items() for entry in entries]
    return pytest.mark.parametrize(("name", "task", "tolerance"), entries)


def check(name: str, task: dict, tolerance: float) -> None:
    stored = [row for row in load_results(name) if task.items() <= row.items()]
    again = rows_of(name, task)
    assert len(again) == len(stored) >= 1
    for new, old in zip(again, stored, strict=True):
        assert new.keys() == old.keys()
        assert new.get("epsilon") == old.get("epsilon")
        for column in ("accuracy", "int8_accuracy"):
            assert new.get(column) == pytest.approx(old.get(column), abs=tolerance), (column, new, old)


@cases(AGAIN)
def test_an_entry_computed_again_is_the_stored_one(name, task, tolerance):
    check(name, task, tolerance)


@pytest.mark.slow
@cases(SLOW)
def test_an_adversarial_training_computed_again_is_the_stored_one(name, task, tolerance):
    check(name, task, tolerance)


def test_the_tolerance_tells_a_defended_network_from_an_undefended_one():
    rows = [row for row in load_results("robustness") if row["epsilon"] == 16]
    clean, defended = ([row["accuracy"] for row in rows if row["trained_with"] == e] for e in (0, 16))
    assert max(clean) + 3 * SLOW["robustness"][0][1] < min(defended)


@pytest.mark.parametrize("name", ["less_to_train", "robustness"])
def test_a_grid_is_whole_with_three_seeds_or_more(name):
    rows, tasks = load_results(name), list(GRIDS[name][0]())
    assert {tuple(row[column] for column in tasks[0]) for row in rows} == {tuple(task.values()) for task in tasks}
    assert len({row["seed"] for row in rows}) >= 3
    assert len({tuple(row[c] for c in rows[0] if "accuracy" not in c) for row in rows}) == len(rows)
    named = METHODS if name == "less_to_train" else STARTS
    assert {row["method" if name == "less_to_train" else "start"] for row in rows} == set(named)


def test_int8_costs_less_than_a_point():
    for row in load_results("less_to_train"):
        assert abs(row["int8_accuracy"] - row["accuracy"]) < 0.01 or row["method"] != "lora", row
