"""The stored results of notebook 07 are what the code measures: some entries are computed again."""

import pytest

from course_utils.commands.grid import rows_of
from course_utils.files import load_results
from course_utils.recommend.grids import RECOMMENDER_GRIDS

# Rounding differs between processors, and a list of ten is cut sharply: a few songs change places.
TOLERANCE = dict(
    recall=0.02, ndcg=0.02, true=0.02, coverage=0.06, diversity=0.03, novelty=0.2, gini=0.03, new_share=0.03,
    old_users_old_songs=0.02, new_users=0.03, no_history=0.05, new_songs=0.03,
)  # fmt: skip
AGAIN = {
    "recommender_adapt": [
        dict(method="full", seed=2),
        dict(method="new vectors", seed=1),
        dict(method="item-kNN", seed=3),
    ],
    "recommender_frontier": [dict(method="full", trade=0.4, seed=1)],
    "recommender_loop": [dict(explore=0.2, seed=1), dict(explore=1.0, seed=0)],
}


@pytest.mark.parametrize("name", RECOMMENDER_GRIDS)
def test_a_grid_is_whole_each_entry_once(name):
    rows, tasks = load_results(name), list(RECOMMENDER_GRIDS[name][0]())
    each = 7 if name == "recommender_loop" else 1
    keys = [tuple(row[column] for column in tasks[0]) for row in rows]
    assert len(keys) == each * len(tasks) and set(keys) == {tuple(task.values()) for task in tasks}


@pytest.mark.parametrize(("name", "task"), [(name, task) for name, tasks in AGAIN.items() for task in tasks])
def test_an_entry_computed_again_is_the_stored_one(name, task):
    stored = [row for row in load_results(name) if task.items() <= row.items()]
    again = rows_of(name, task)
    assert len(again) == len(stored)
    for new, old in zip(again, stored, strict=True):
        assert new.keys() == old.keys()
        for column, tolerance in TOLERANCE.items():
            if column in new:
                assert new[column] == pytest.approx(old[column], abs=tolerance), (column, new, old)
