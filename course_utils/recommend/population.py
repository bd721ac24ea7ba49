"""A simulated population of listeners and songs, whose rules are short enough to read and whose truth is known.

1. A song belongs to a genre. Its vector is the genre's centre plus something of its own; what the recommender sees of
   it, its features, is the genre and a noisy measurement of that vector.
2. A listener loves two genres. The taste for a song is the product of the two vectors, plus the song's appeal.
3. In a session a listener sees a page of ten songs: most of them drawn by the clicks so far, the others evenly. A song
   further down the page is looked at less often, by 1 / log2(place + 1), and one that is looked at is clicked with
   the probability sigmoid(taste - 1.5).
4. Time runs from day 0 to day 100. Some songs come out, and some listeners join, only after day 60.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

OLD_UNTIL, RECENT_UNTIL, DAYS = 60, 80, 100  # pretraining; adaptation; test
GENRES, PAGE = 10, 10
EXAMINED = 1 / np.log2(np.arange(1, PAGE + 1) + 1)  # the share of those who look at each place of a page


class Clicks(NamedTuple):
    """Who clicked what and when: three arrays (N,), in the order of time."""

    users: np.ndarray
    items: np.ndarray
    days: np.ndarray

    def where(self, chosen: np.ndarray) -> "Clicks":
        """Those that a mask (N,) or indices choose."""
        return Clicks(*(column[chosen] for column in self))

    def between(self, first: float, end: float) -> "Clicks":
        """Those of the days from `first` up to `end`, which does not count."""
        return self.where((self.days >= first) & (self.days < end))

    def matrix(self, num_users: int, num_items: int) -> np.ndarray:
        """bool (users, items): who clicked what."""
        table = np.zeros((num_users, num_items), dtype=bool)
        table[self.users, self.items] = True
        return table


@dataclass
class Interactions:
    """What a recommender may know: the clicks, and the features of the items, (items, F) float32."""

    clicks: Clicks
    num_users: int
    num_items: int
    features: np.ndarray
    item_names: list[str]
    joined: np.ndarray  # (users,) the day on which a user joins, 0 for those who were there
    released: np.ndarray  # (items,) the day on which an item comes out, 0 for those that were there

    def matrix(self, clicks: Clicks) -> np.ndarray:
        return clicks.matrix(self.num_users, self.num_items)

    @property
    def new_users(self) -> np.ndarray:
        return np.flatnonzero(self.joined >= OLD_UNTIL)

    @property
    def new_items(self) -> np.ndarray:
        return np.flatnonzero(self.released >= OLD_UNTIL)


@dataclass
class Population(Interactions):
    """Interactions of simulated people, and the truth behind them, which no recommender may see."""

    genres: np.ndarray  # (items,)
    preference: np.ndarray  # (users, items): the probability of a click on a song that is looked at


def simulate(
    seed: int = 0,
    *,
    users: int = 600,
    items: int = 400,
    new_share: float = 0.2,
    sessions: int = 14,
    by_popularity: float = 0.7,
) -> Population:
    """Let a population live for 100 days. The last `new_share` of the users and of the items come after day 60.

    sessions: how many an old listener has in 100 days, on average. by_popularity: the share of a page that is drawn
    by the clicks so far. Raises ValueError where there are fewer items than two pages, or no users.
    """
    if users < 1 or items < 2 * PAGE or not 0 <= new_share < 1:
        raise ValueError(f"It takes 1 user, {2 * PAGE} items and a new_share from 0 to below 1, not {new_share}.")
    rng = np.random.default_rng(seed)
    genres = rng.integers(GENRES, size=items)
    centres = rng.normal(size=(GENRES, 8))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    songs = centres[genres] + rng.normal(size=(items, 8)) * 0.25
    loved = np.stack([rng.permutation(GENRES)[:2] for _ in range(users)])
    tastes = 2 * centres[loved].sum(1) + rng.normal(size=(users, 8)) * 0.4
    appeal = rng.normal(size=items) * 0.7
    preference = 1 / (1 + np.exp(-(tastes @ songs.T + appeal - 1.5)))
    features = np.hstack([np.eye(GENRES)[genres], songs + rng.normal(size=songs.shape) * 0.2]).astype(np.float32)

    joined, released = np.zeros(users), np.zeros(items)
    newcomers, releases = round(users * new_share), round(items * new_share)
    joined[users - newcomers :] = rng.uniform(OLD_UNTIL, RECENT_UNTIL - 5, newcomers)
    released[items - releases :] = rng.uniform(OLD_UNTIL, RECENT_UNTIL - 5, releases)

    counts = np.ceil(sessions * (DAYS - joined) / DAYS * rng.uniform(0.5, 1.5, users)).astype(int)
    visitors = np.repeat(np.arange(users), counts)
    days = rng.uniform(joined[visitors], DAYS)
    clicks_so_far, known, record = np.ones(items), np.zeros((users, items), dtype=bool), []
    for at in np.argsort(days):
        user, day = visitors[at], days[at]
        there = np.flatnonzero((released <= day) & ~known[user])
        weights = clicks_so_far[there] / clicks_so_far[there].sum()
        weights = by_popularity * weights + (1 - by_popularity) / len(there)
        page = rng.choice(there, size=min(PAGE, len(there)), replace=False, p=weights)
        clicked = page[rng.random(len(page)) < EXAMINED[: len(page)] * preference[user, page]]
        known[user, clicked] = True
        clicks_so_far[clicked] += 1
        record += [(user, item, day) for item in clicked]
    columns = np.array(record).T
    clicks = Clicks(columns[0].astype(int), columns[1].astype(int), columns[2])
    names = [f"song {i} (genre {genre})" for i, genre in enumerate(genres)]
    return Population(clicks, users, items, features, names, joined, released, genres, preference)
