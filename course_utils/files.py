"""Files that are never half written, and the stored results of the course."""

import csv
import os
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "results"


def write_atomically(path: Path | str, content: bytes) -> None:
    """Write a file under another name first, then rename it: its own name never stands for half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_results(name: str, folder: Path = RESULTS) -> list[dict]:
    """The rows of a stored grid, made by `python -m course_utils grid NAME`; numbers as int or float."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise FileNotFoundError(f"There is no results/{path.name}. Make it with: python -m course_utils grid {name}")
    with path.open(encoding="utf-8", newline="") as file:
        return [{column: _number(value) for column, value in row.items()} for row in csv.DictReader(file)]


def scores(rows: list[dict], line: str, x: str, value: str = "accuracy", **only) -> dict:
    """Rows -> {row[line]: {row[x]: [row[value], ...]}}, of those rows that have the values given by `only`."""
    table: dict = {}
    for row in rows:
        if all(row[column] == wanted for column, wanted in only.items()):
            table.setdefault(row[line], {}).setdefault(row[x], []).append(row[value])
    return table


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
