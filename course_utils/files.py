"""Files that are never half written, and the stored results of the course."""

import csv
import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "results"
PATIENCE = 2  # seconds
HOUR = 3600


def write_atomically(path: Path | str, content: bytes) -> None:
    """Write a file under another name first, then rename it: its own name never stands for half of it.

    Several processes and threads may write the same file: each uses a name of its own, and the last one to finish
    wins. A file that is there already keeps its permissions. What a killed process has left is deleted by a later call
    for a file in the same folder, once it is an hour old. Raises OSError where the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_leftovers(path.parent)
    unfinished = path.with_name(f".course-{uuid.uuid4().hex}.unfinished")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):  # there is no such file yet
            shutil.copymode(path, unfinished)
        _rename(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _rename(unfinished: Path, path: Path) -> None:
    """Rename a file. Windows refuses this while another program reads the old one, so it is tried for 2 seconds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            unfinished.replace(path)
            return
        except PermissionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _delete_leftovers(folder: Path) -> None:
    for leftover in folder.glob(".course-*.unfinished"):
        with suppress(OSError):  # another writer was faster
            if time.time() - leftover.stat().st_mtime > HOUR:
                leftover.unlink()


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
