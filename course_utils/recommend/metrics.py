"""How good a list of recommendations is, and how varied: measures in numpy, and re-ranking for variety.

`recommended` is a table (users, k) of item numbers, the best first; `relevant` a bool table (users, items).
"""

import numpy as np


def top_k(scores: np.ndarray, k: int, exclude: np.ndarray | None = None) -> np.ndarray:
    """The k items of the highest scores of each user, best first: (users, items) -> (users, k).

    exclude: bool (users, items) or (items,), what may not be recommended, such as what a user knows already.
    Raises ValueError where fewer than k items are left to somebody.
    """
    allowed = np.ones(scores.shape, dtype=bool) if exclude is None else np.broadcast_to(~exclude, scores.shape)
    fewest = allowed.sum(axis=1).min() if len(scores) else 0
    if not 1 <= k <= fewest:
        raise ValueError(f"k must be from 1 to {fewest}, the number of items that are left to every user; it is {k}.")
    scores = np.where(allowed, scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def _hits(recommended: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    if len(recommended) != len(relevant):
        raise ValueError(f"Lists of {len(recommended)} users and relevant items of {len(relevant)}.")
    if recommended.size and not 0 <= recommended.min() <= recommended.max() < relevant.shape[1]:
        raise ValueError(f"Unknown item: numbers go from 0 to {relevant.shape[1] - 1}, not to {recommended.max()}.")
    return np.take_along_axis(relevant, recommended, axis=1)


def recall_at_k(recommended: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """For each user the share of the relevant items that is in the list, (users,); NaN for a user who has none."""
    found, total = _hits(recommended, relevant).sum(axis=1), relevant.sum(axis=1)
    return np.where(total > 0, found / np.maximum(total, 1), np.nan)


def ndcg_at_k(recommended: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Discounted gain 1 / log2(place + 1) of the hits over that of the best possible list, (users,); NaN as above.

    It is scikit-learn's ndcg_score with ignore_ties=True, for relevance 0 or 1, user by user.
    """
    k = recommended.shape[1]
    discount = 1 / np.log2(np.arange(2, k + 2))
    gain = (_hits(recommended, relevant) * discount).sum(axis=1)
    best = np.concatenate([[0], discount.cumsum()])[np.minimum(relevant.sum(axis=1), k)]
    return np.where(best > 0, gain / np.where(best > 0, best, 1), np.nan)


def coverage(recommended: np.ndarray, num_items: int) -> float:
    """The share of the catalogue that is in somebody's list."""
    return len(np.unique(recommended)) / num_items


def diversity(recommended: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Intra-list diversity of each user, (users,): 1 - cosine of the features, averaged over pairs of a list."""
    k = recommended.shape[1]
    if k < 2:
        raise ValueError("A list of one item has no pairs: diversity needs k of 2 or more.")
    unit = _unit(features)[recommended]
    return 1 - ((unit.sum(axis=1) ** 2).sum(axis=-1) - k) / (k * (k - 1))


def novelty(recommended: np.ndarray, clicks: np.ndarray, num_users: int) -> float:
    """Mean surprise of the recommended items in bits, -log2(share of users who clicked it before).

    clicks (items,): how many users clicked each. An item without clicks counts as if it had one.
    """
    return float(-np.log2(np.maximum(clicks, 1) / num_users)[recommended].mean())


def gini(counts: np.ndarray) -> float:
    """How unevenly something is spread over items: 0 where all have the same, towards 1 where one has all."""
    if not (total := counts.sum()):
        raise ValueError("Nothing was counted: the Gini coefficient of zeros alone does not exist.")
    ranks = np.arange(1, len(counts) + 1)
    return float((2 * ranks - len(counts) - 1) @ np.sort(counts) / (len(counts) * total))


def mmr(scores: np.ndarray, features: np.ndarray, k: int, trade: float, *, exclude=None, pool: int = 50) -> np.ndarray:
    """Re-rank for variety by maximal marginal relevance: (users, items) -> (users, k).

    Each place takes the item of the largest (1 - trade) * score - trade * cosine to the nearest item already taken,
    out of the `pool` best; scores are first brought to 0 to 1 over a user's pool. Source: J. Carbonell and
    J. Goldstein, "The Use of MMR", SIGIR 1998. trade=0 changes nothing.
    """
    if not 0 <= trade <= 1:
        raise ValueError(f"trade goes from 0, scores alone, to 1, variety alone; it is {trade}.")
    if k > pool:
        raise ValueError(f"A list of {k} cannot come out of a pool of {pool}.")
    candidates = top_k(scores, pool, exclude)
    value = np.take_along_axis(scores, candidates, axis=1)
    value = (value - value[:, -1:]) / np.maximum(value[:, :1] - value[:, -1:], 1e-12)
    vectors, users = _unit(features)[candidates], np.arange(len(scores))
    nearest, places = np.zeros(value.shape), []
    for place in range(k):
        gain = (1 - trade) * value - trade * nearest
        gain[users[:, None], np.array(places, dtype=int).T.reshape(len(scores), -1)] = -np.inf
        best = gain.argmax(axis=1)
        places.append(best)
        cosine = np.einsum("upf,uf->up", vectors, vectors[users, best])
        nearest = np.maximum(nearest, cosine) if place else cosine
    return np.take_along_axis(candidates, np.stack(places, axis=1), axis=1)


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


# --- recommenders without a network: scores (users, items) from a bool table of clicks --------------------------------


def random_scores(known: np.ndarray, seed: int = 0) -> np.ndarray:
    """Every user gets an order drawn by chance."""
    return np.random.default_rng(seed).random(known.shape)


def popular_scores(known: np.ndarray) -> np.ndarray:
    """Everybody gets the items of the most clicks."""
    return np.broadcast_to(known.sum(axis=0).astype(float), known.shape)


def knn_scores(known: np.ndarray, neighbours: int = 50) -> np.ndarray:
    """Item-kNN: the cosines between an item's clicks and those of the items that the user knows, added up.

    Of each item the `neighbours` most similar ones count.
    """
    table = known.astype(np.float32)
    norms = np.maximum(np.linalg.norm(table, axis=0), 1e-12)
    similar = table.T @ table / norms / norms[:, None]
    np.fill_diagonal(similar, 0)
    if neighbours < len(similar):
        similar[similar < -np.sort(-similar, axis=1)[:, neighbours - 1 : neighbours]] = 0
    return table @ similar.T
