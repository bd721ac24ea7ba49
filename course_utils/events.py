"""Read the event files that TensorBoard shows, without TensorBoard, and without torch."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog


class Series(NamedTuple):
    """One curve: what was logged under a tag."""

    steps: np.ndarray  # (n,), int
    values: np.ndarray  # (n,), float
    wall_times: np.ndarray  # (n,), seconds since 1970


def event_files(run_dir: Path | str) -> list[Path]:
    """The event files of one run, in the order in which they were begun."""
    return sorted(path for path in Path(run_dir).glob("*tfevents*") if path.is_file())


def read_events(file: Path | str) -> tuple[list[Event], int]:
    """The whole records of an event file, and how many bytes at its end are none.

    A file that is being written, or whose writer was killed, may end within a record. Reading stops where one is cut
    or makes no sense. A record (TFRecord) is the length of its data in 8 bytes, their checksum in 4, the data, and
    the checksum of those. The checksums are not computed: in Python they would take most of the time.
    """
    content, events, start = Path(file).read_bytes(), [], 0
    while start + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + 12 + length + 4
        if length == 0 or end > len(content):  # no event is empty, but a disk that lost power leaves zeros
            break
        try:
            events.append(Event.FromString(content[start + 12 : end - 4]))
        except DecodeError:
            break
        start = end
    return events, len(content) - start


def scalars_of(events: Iterable[Event]) -> dict[str, Series]:
    """{tag: Series} of the events of one run, in their order; what a resumed run asked to forget is left out."""
    points: dict[str, list[tuple]] = {}
    for event in events:
        if event.session_log.status == SessionLog.START:
            points = {tag: [point for point in known if point[0] < event.step] for tag, known in points.items()}
        for value in event.summary.value:
            if value.HasField("simple_value"):
                points.setdefault(value.tag, []).append((event.step, value.simple_value, event.wall_time))
    return {tag: Series(*map(np.array, zip(*known, strict=True))) for tag, known in points.items() if known}


def read_scalars(run_dir: Path | str) -> dict[str, Series]:
    """All scalars of a run, every point of them: {tag: Series}. Read after the logger is closed.

    Raises FileNotFoundError where the directory holds no event file.
    """
    files = event_files(run_dir)
    if not files:
        raise FileNotFoundError(f"No event file in {Path(run_dir).name}: nothing was logged in this directory.")
    return scalars_of(itertools.chain.from_iterable(read_events(file)[0] for file in files))
