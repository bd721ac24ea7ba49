"""The numbers in the boxes "Found since this was written", computed again from stored runs or from a short training."""

import copy
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from course_utils import clinic
from course_utils.clinic.remedies import RATE, SITUATIONS, WEIGHT_DECAY
from course_utils.files import load_results
from course_utils.recipes import one_cycle
from course_utils.recommend import metrics, recipes
from course_utils.recommend.grids import pretrained
from course_utils.recommend.networks import score_all

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def box(name: str, section: str) -> str:
    """The box below a heading, in one line."""
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
    (source,) = (cell.source for cell in cells if section in cell.source)
    quoted = source.split(section)[1].split("\n\n")[1]
    return quoted.replace("\n>", "").removeprefix("> ")


def test_at_equal_variety_the_network_that_was_not_fine_tuned_is_ahead():
    rows = load_results("recommender_frontier")
    cells = ("as pretrained", 0.4), ("full", 0.6)
    one, other = ([row for row in rows if (row["method"], row["trade"]) == cell] for cell in cells)
    assert [row["seed"] for row in one] == [row["seed"] for row in other] == list(range(8))
    text = box("07_recommender_fine_tuning", "## 6. Variety has a price, and you may choose it")
    for name, column, count in (("recall", "recall", "8 of 8 populations"), ("*true*", "true", "6 of 8")):
        gain = np.array([a[column] - b[column] for a, b in zip(one, other, strict=True)])
        assert (gain > 0).sum() == int(count[0])
        assert f"in {name} by {gain.mean():.3f} ± {gain.std(ddof=1) / 8**0.5:.3f} ({count})" in text
    varied, new = (
        [np.mean([row[name] for row in rows]) for rows in (one, other)] for name in ("diversity", "new_share")
    )
    assert f"({varied[0]:.2f} and {varied[1]:.2f})" in text
    assert f"{new[1]:.0%} of the places against {new[0]:.0%}".replace("%", " %") in text


def test_fine_tuned_on_all_recent_clicks_it_is_more_accurate_and_shows_fewer_new_songs():
    population, periods, model = pretrained(0)
    text = box("07_recommender_fine_tuning", "## 5. Four ways to adapt")
    assert f"{len(periods.news.users)} of the {len(periods.recent.users):,} clicks" in text

    def measured(network):
        lists = metrics.top_k(score_all(network), 10, periods.known)
        return recipes.report(lists, population, periods)

    tuned = copy.deepcopy(model)
    tuned.set_history(periods.known)
    torch.manual_seed(0)
    recipes.train(tuned, periods.recent, periods.known, periods.catalogue, seed=0, rate=1e-3)
    before, after = measured(model), measured(tuned)
    assert after["recall"] > before["recall"] and after["true"] > before["true"] + 0.01
    assert after["new_share"] < before["new_share"] / 2


def test_nine_seeds_tie_for_the_best_on_form_7():
    form7, fresh = (np.array([row[f"accuracy_{name}"] for row in clinic.healthy_rows()]) for name in ("form7", "fresh"))
    tied = form7 == form7.max()
    assert tied.sum() == 9 and round(123 * form7.max()) == 122
    text = box("05_diagnosing_training", "## 4. What no curve shows")
    assert f"from {fresh[tied].min():.3f} to {fresh[tied].max():.3f}" in text
    assert f"{form7.max():.3f}, the best on form 7; {form7.mean():.3f}, the mean" in text
    assert f"made {form7.max() - form7.mean():.3f}); {fresh.mean():.3f}, their mean on fresh forms" in text
    assert f"easier by {(form7 - fresh).mean():.3f}). The nine together have {fresh[tied].mean():.3f} there" in text


@pytest.mark.parametrize(("situation", "steps"), list(zip(SITUATIONS, (60, 120), strict=True)))
def test_what_weight_decay_leaves_of_a_weight(situation, steps):
    per_class, _, batch_size, epochs = SITUATIONS[situation]
    assert epochs * (10 * per_class // batch_size) == steps
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.zeros(1)  # the loss has nothing to say: the decay acts alone
    optimizer = torch.optim.AdamW([weight], lr=RATE, weight_decay=WEIGHT_DECAY["weight decay"])
    schedule = one_cycle(optimizer, steps)
    for _ in range(steps):
        optimizer.step()
        schedule.step()
    text = box("05b_over_fitting_and_cost", "## 3. Six remedies, seed by seed")
    assert f"{weight.item():.3f}" in text and f"{steps}" in text
