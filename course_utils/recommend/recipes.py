"""Pretraining on old clicks, ways to adapt to new users and new items, and what each of them brings and costs."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch

from course_utils.recommend import metrics
from course_utils.recommend.networks import CandidateLoader, MatrixFactorisation, TwoTower, bpr_loss, score_all
from course_utils.recommend.population import DAYS, OLD_UNTIL, RECENT_UNTIL, Clicks, Interactions, Population
from course_utils.training import History, fit

# Chosen on the populations of seeds 100 and 101 by the measures of their test periods; no figure shows these two.
RATE, EPOCHS = 5e-3, 10
ADAPT = ("frozen towers", "new vectors", "full", "full with replay")
RATINGS = 3  # clicks of a new user that the adaptation may see


class Periods:
    """Clicks by time, one calendar for all: `old` for pretraining, `recent` for adapting, `test` for the end.

    Of a new user `recent` holds the first three clicks at most, and none where they all come after day 80; what else
    they clicked before day 80 is in no part. `news` is the part of `recent` that concerns a new user or a new item.
    `old_catalogue` and `catalogue` are the items that were out before day 60 and before day 80.
    """

    def __init__(self, population: Interactions):
        clicks, new_user = population.clicks, population.joined >= OLD_UNTIL
        number = np.zeros(len(clicks.users), dtype=int)  # which click of the user's it is, from 0
        order = np.argsort(clicks.users, kind="stable")
        starts = np.searchsorted(clicks.users[order], clicks.users[order])
        number[order] = np.arange(len(order)) - starts
        seen = (number < RATINGS) | ~new_user[clicks.users]
        self.old = clicks.between(0, OLD_UNTIL)
        self.recent = clicks.where(seen & (clicks.days >= OLD_UNTIL) & (clicks.days < RECENT_UNTIL))
        self.test = clicks.where(clicks.days >= RECENT_UNTIL)
        novel = new_user[self.recent.users] | (population.released[self.recent.items] >= OLD_UNTIL)
        self.news = self.recent.where(novel)
        self.known_before = population.matrix(self.old)
        self.known = self.known_before | population.matrix(self.recent)
        self.relevant = population.matrix(self.test) & ~self.known
        self.old_catalogue = np.flatnonzero(population.released < OLD_UNTIL)
        self.catalogue = np.flatnonzero(population.released < RECENT_UNTIL)


def train(
    model: MatrixFactorisation,
    clicks: Clicks,
    known: np.ndarray,
    catalogue: np.ndarray,
    *,
    seed: int,
    rate: float = RATE,
    epochs: int = EPOCHS,
    loss_fn: Callable = bpr_loss,
    logger=None,
    device: torch.device | str = "cpu",
) -> History:
    """`fit` with the course's settings for a recommender; changes the model. Parameters that are frozen stay out."""
    loader = CandidateLoader(clicks, known, catalogue, seed=seed)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    return fit(
        model, loader, None, loss_fn=loss_fn, optimizer=optimizer, device=device, epochs=epochs, progress=False,
        logger=logger,
    )  # fmt: skip


def pretrain(population: Interactions, periods: Periods, *, seed: int, **options) -> TwoTower:
    """A two-tower network trained on the old clicks; options are `train`'s."""
    torch.manual_seed(seed)
    model = TwoTower(population.num_users, population.num_items, population.features)
    model.set_history(periods.known_before)
    train(model, periods.old, periods.known_before, periods.old_catalogue, seed=seed, **options)
    return model


def adapt(recipe: str, model: TwoTower, population: Interactions, periods: Periods, *, seed: int, **options) -> None:
    """Adapt a pretrained model, in place, to what came after day 60; recipes are the names in ADAPT.

    frozen towers: no training, only the profiles get the new clicks. new vectors: the own vectors and biases of new
    users and new items train on the news, nothing else moves. full: all of it trains on the news. full with replay:
    as many old clicks, drawn by chance, are mixed in. Raises ValueError for another name.
    """
    if recipe not in ADAPT:
        raise ValueError(f"There is no recipe {recipe!r}. There are: {', '.join(ADAPT)}.")
    model.set_history(periods.known)
    if recipe == "frozen towers":
        return
    clicks = periods.news
    if recipe == "full with replay":
        drawn = np.random.default_rng(seed).choice(len(periods.old.users), len(clicks.users), replace=False)
        clicks = Clicks(*(np.concatenate(pair) for pair in zip(clicks, periods.old.where(drawn), strict=True)))
    torch.manual_seed(seed)
    rows = only_rows(model, population.new_users, population.new_items) if recipe == "new vectors" else None
    with rows or contextlib.nullcontext():
        train(model, clicks, periods.known, periods.catalogue, seed=seed, **options)


@contextlib.contextmanager
def only_rows(model: TwoTower, users: np.ndarray, items: np.ndarray) -> Iterator[None]:
    """Let nothing train but these users' and items' own vectors and biases, as long as the context lasts.

    The gradient of all other rows is set to zero. Adam then leaves them alone, as its means of the gradient stay
    zero; weight decay would move them.
    """
    frozen = [p for module in (model.user_tower, model.item_tower) for p in module.parameters()]
    hooks = []
    for table, rows in ((model.users, users), (model.items, items), (model.bias, items)):
        mask = torch.zeros_like(table.weight)
        mask[torch.as_tensor(rows)] = 1
        hooks.append(table.weight.register_hook(lambda gradient, mask=mask: gradient * mask))
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        for hook in hooks:
            hook.remove()


def report(
    recommended: np.ndarray, population: Interactions, periods: Periods, users: np.ndarray | None = None
) -> dict[str, float]:
    """All measures of lists (users, k), averaged over some of the users, or all.

    `true`, of a simulated population alone, is the mean probability of a click on what is recommended, if it is looked
    at. Raises ValueError where none of these users has anything relevant.
    """
    users = np.arange(population.num_users) if users is None else users
    lists, relevant = recommended[users], periods.relevant[users]
    asked = relevant.any(axis=1)
    if not asked.any():
        raise ValueError("None of these users clicked anything new in the test period: there is nothing to compare.")
    shown = np.bincount(lists.ravel(), minlength=population.num_items)
    measured = {
        "recall": float(metrics.recall_at_k(lists, relevant)[asked].mean()),
        "ndcg": float(metrics.ndcg_at_k(lists, relevant)[asked].mean()),
        "coverage": metrics.coverage(lists, population.num_items),
        "diversity": float(metrics.diversity(lists, population.features).mean()),
        "novelty": metrics.novelty(lists, periods.known.sum(axis=0), population.num_users),
        "gini": metrics.gini(shown),
        "new_share": float(np.isin(lists, population.new_items).mean()),
    }
    if isinstance(population, Population):
        measured["true"] = float(np.take_along_axis(population.preference[users], lists, axis=1).mean())
    return measured


def report_groups(scores: np.ndarray, population: Population, periods: Periods, k: int = 10) -> dict[str, float]:
    """Who gains and who loses, by `true`, and all measures of the whole.

    Old users on old songs (is it forgotten?), new users, those of them without a known click, and new songs for old
    users. Raises ValueError where a group is empty.
    """
    old_users = np.flatnonzero(population.joined < OLD_UNTIL)
    no_history = population.new_users[~periods.known[population.new_users].any(axis=1)]
    is_new = np.isin(np.arange(population.num_items), population.new_items)
    lists = metrics.top_k(scores, k, periods.known)
    old_only = metrics.top_k(scores, k, periods.known | is_new)
    new_only = metrics.top_k(scores, k, periods.known | ~is_new)
    return {
        "old_users_old_songs": report(old_only, population, periods, old_users)["true"],
        "new_users": report(lists, population, periods, population.new_users)["true"],
        "no_history": report(lists, population, periods, no_history)["true"],
        "new_songs": report(new_only, population, periods, old_users)["true"],
        **report(lists, population, periods),
    }


def click(recommended: np.ndarray, population: Population, day: float, rng: np.random.Generator) -> Clicks:
    """What the population does with lists (users, k) on a day: the rule of its pages, place by place."""
    examined = 1 / np.log2(np.arange(2, recommended.shape[1] + 2))
    chance = examined * np.take_along_axis(population.preference, recommended, axis=1)
    users, places = np.nonzero(rng.random(chance.shape) < chance)
    return Clicks(users, recommended[users, places], np.full(len(users), float(day)))


def feedback_loop(
    population: Population,
    *,
    seed: int,
    rounds: int = 6,
    explore: float = 0.0,
    k: int = 10,
    epochs: int = 30,
) -> list[dict[str, float]]:
    """Show everybody a page, watch the clicks, train on them, fill the next page, and again: one row a round.

    A matrix factorisation, which knows only what was clicked, is trained anew on the clicks of one page alone, the
    last; songs may be heard again. The first page is filled by chance, so every round learns from one page, and
    `explore`, the share of the places that is filled by chance later on, is the only difference between two loops.
    With explore=1 nothing is fed back: that is the control.
    Each row: clicks, how many the round learnt from; coverage, gini and true (see `report`) of the lists it made.
    """
    if not 0 <= explore <= 1:
        raise ValueError(f"explore is a share from 0 to 1, not {explore}.")
    rng = np.random.default_rng(seed)
    catalogue, shape = np.arange(population.num_items), (population.num_users, k)
    page, rows = rng.integers(population.num_items, size=shape), []
    for step in range(rounds + 1):
        clicks = click(page, population, DAYS + step, rng)
        torch.manual_seed(seed)
        model = MatrixFactorisation(population.num_users, population.num_items)
        train(model, clicks, population.matrix(clicks), catalogue, seed=seed + step, epochs=epochs)
        lists = metrics.top_k(score_all(model), k)
        shown = np.bincount(lists.ravel(), minlength=population.num_items)
        rows.append(
            dict(
                step=step,
                clicks=len(clicks.users),
                coverage=metrics.coverage(lists, population.num_items),
                gini=metrics.gini(shown),
                true=float(np.take_along_axis(population.preference, lists, axis=1).mean()),
            )
        )
        page = np.where(rng.random(shape) < explore, rng.integers(population.num_items, size=shape), lists)
    return rows
