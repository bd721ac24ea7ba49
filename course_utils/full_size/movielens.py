"""MovieLens as interactions for the recommenders: ratings of 4 and 5 count as clicks.

Its licence allows research and no handing on, and forbids commercial use without leave; see the README in the archive.
Source: F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np

from course_utils.recommend.population import OLD_UNTIL, Clicks, Interactions

EDITIONS = {"ml-100k": ("u.data", "u.item"), "ml-1m": ("ratings.dat", "movies.dat")}
EDITIONS["ml-latest-small"] = ("ratings.csv", "movies.csv")


def load_movielens(folder: Path | str = "../data", edition: str = "ml-100k", *, liked: float = 4) -> Interactions:
    """Read an edition, "ml-100k", "ml-1m" or "ml-latest-small", from `folder`, unpacked or as EDITION.zip.

    Days go from 0 to 100 by the number of clicks: 60 % of them come before day 60. A user or a film belongs to the new
    ones where the first click is after that. Features are the genres, as 0 and 1.
    Raises ValueError for an unknown edition or a file that is not of its form, FileNotFoundError where there is none.
    """
    if edition not in EDITIONS:
        raise ValueError(f"There is no edition {edition!r}. There are: {', '.join(EDITIONS)}.")
    ratings, films = (_lines(Path(folder), edition, name) for name in EDITIONS[edition])
    try:
        names, genres = _films(films, edition)
        separator = {"ml-100k": "\t", "ml-1m": "::", "ml-latest-small": ","}[edition]
        start = 1 if edition == "ml-latest-small" else 0  # a line of headings
        table = np.array([line.split(separator) for line in ratings[start:] if line], dtype=float)
        users, films_rated, values, seconds = table.T
    except (ValueError, IndexError) as error:
        raise ValueError(f"The files of {edition} are not of its form: {error}. Fetch the archive again.") from error
    chosen = np.flatnonzero(values >= liked)
    if not len(chosen):
        raise ValueError(f"No rating of {edition} is {liked:g} or more: choose a lower `liked`.")
    chosen = chosen[np.argsort(seconds[chosen], kind="stable")]
    user_ids, user = np.unique(users[chosen], return_inverse=True)
    film_ids, film = np.unique(films_rated[chosen].astype(int), return_inverse=True)
    if missing := set(film_ids.tolist()) - names.keys():
        raise ValueError(f"{edition} rates the film {min(missing)}, which its list of films does not have.")
    days = 100 * np.searchsorted(seconds[chosen], seconds[chosen]) / len(chosen)
    return Interactions(
        Clicks(user, film, days),
        len(user_ids),
        len(film_ids),
        np.array([genres[i] for i in film_ids.tolist()], dtype=np.float32),
        [names[i] for i in film_ids.tolist()],
        joined=_first_day(user, days),
        released=_first_day(film, days),
    )


def _first_day(numbers: np.ndarray, days: np.ndarray) -> np.ndarray:
    """The day of each one's first click, 0 where that is before OLD_UNTIL."""
    first = days[np.unique(numbers, return_index=True)[1]]
    return np.where(first < OLD_UNTIL, 0, first)


def _lines(folder: Path, edition: str, name: str) -> list[str]:
    encoding = "utf-8" if edition == "ml-latest-small" else "latin-1"
    if (path := folder / edition / name).is_file():
        return path.read_text(encoding=encoding).split("\n")
    if (archive := folder / f"{edition}.zip").is_file():
        with zipfile.ZipFile(archive) as files, files.open(f"{edition}/{name}") as file:
            return io.TextIOWrapper(file, encoding=encoding).read().split("\n")
    raise FileNotFoundError(
        f"There is no {edition} in the folder {folder.name}. `python -m course_utils prepare --only movielens` fetches "
        "ml-100k; other editions are at grouplens.org/datasets/movielens."
    )


def _films(lines: list[str], edition: str) -> tuple[dict[int, str], dict[int, np.ndarray]]:
    """{number: title} and {number: genres as 0 and 1}."""
    if edition == "ml-100k":
        rows = [line.split("|") for line in lines if line]
        genres = {int(row[0]): np.array(row[5:24], dtype=float) for row in rows}
        if any(len(flags) != 19 for flags in genres.values()):
            raise ValueError("a film must have 19 genres, as 0 or 1")
        return {int(row[0]): row[1] for row in rows}, genres
    if edition == "ml-latest-small":
        rows = [row for row in csv.reader(lines[1:]) if row]
    else:
        rows = [line.split("::") for line in lines if line]
    known = sorted({genre for row in rows for genre in row[2].split("|")})
    genres = {int(row[0]): np.isin(known, row[2].split("|")).astype(float) for row in rows}
    return {int(row[0]): row[1] for row in rows}, genres
