"""The larger experiments of notebook 07, for `python -m course_utils grid`. Every seed has a population of its own."""

import copy
import functools
import itertools
from collections.abc import Callable, Iterable

import numpy as np

from course_utils.recommend.metrics import knn_scores, mmr, popular_scores, random_scores
from course_utils.recommend.networks import TwoTower, score_all
from course_utils.recommend.population import Population, simulate
from course_utils.recommend.recipes import ADAPT, Periods, adapt, feedback_loop, pretrain, report, report_groups

SEEDS, LOOP_SEEDS = range(8), range(5)
METHODS = ("random", "most popular", "item-kNN", "the truth", "as pretrained", *ADAPT)
TRADES = (0.0, 0.2, 0.4, 0.6, 0.8)
EXPLORE = (0.0, 0.2, 0.5, 1.0)  # the last is the control: nothing is fed back


@functools.cache
def pretrained(seed: int) -> tuple[Population, Periods, TwoTower]:
    """A population, its periods, and a network that learned its old clicks."""
    population = simulate(seed)
    periods = Periods(population)
    return population, periods, pretrain(population, periods, seed=seed)


def scores_of(method: str, seed: int) -> np.ndarray:
    """(users, items): the scores of a baseline, of the truth, or of a network after a recipe."""
    population, periods, model = pretrained(seed)
    if method == "the truth":
        return population.preference
    if method in ("random", "most popular", "item-kNN"):
        baseline = {"random": random_scores, "most popular": popular_scores, "item-kNN": knn_scores}[method]
        return baseline(periods.known)
    model = copy.deepcopy(model)
    if method != "as pretrained":
        adapt(method, model, population, periods, seed=seed)
    return score_all(model)


def adapt_tasks() -> Iterable[dict]:
    for method, seed in itertools.product(METHODS, SEEDS):
        yield dict(method=method, seed=seed)


def measure_adapt(method: str, seed: int) -> list[dict]:
    """All measures of lists of ten, after each way to adapt, and of the recommenders without a network."""
    population, periods, _ = pretrained(seed)
    return [report_groups(scores_of(method, seed), population, periods)]


def frontier_tasks() -> Iterable[dict]:
    for method, trade, seed in itertools.product(("as pretrained", "full"), TRADES, SEEDS):
        yield dict(method=method, trade=trade, seed=seed)


def measure_frontier(method: str, trade: float, seed: int) -> list[dict]:
    """The measures after re-ranking by maximal marginal relevance."""
    population, periods, _ = pretrained(seed)
    lists = mmr(scores_of(method, seed), population.features, 10, trade, exclude=periods.known)
    return [report(lists, population, periods)]


def loop_tasks() -> Iterable[dict]:
    for explore, seed in itertools.product(EXPLORE, LOOP_SEEDS):
        yield dict(explore=explore, seed=seed)


def measure_loop(explore: float, seed: int) -> list[dict]:
    """Seven rounds of showing a page, watching the clicks, and training on them."""
    return feedback_loop(simulate(seed), seed=seed, explore=explore)


RECOMMENDER_GRIDS: dict[str, tuple[Callable, Callable]] = {
    "recommender_adapt": (adapt_tasks, measure_adapt),
    "recommender_frontier": (frontier_tasks, measure_frontier),
    "recommender_loop": (loop_tasks, measure_loop),
}
