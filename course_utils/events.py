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
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_BFLOAT16
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.util.tensor_util import make_ndarray

SMALL = 10_000  # bytes; 0.6 s for a megabyte of records, whose checksums Python computes


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
    or damaged. A record (TFRecord) is the length of its data in 8 bytes, their checksum in 4, the data, and the
    checksum of those. The checksum of each length is compared, and that of data up to 10,000 bytes: of scalars, but
    not of large pictures, for which Python is too slow. A checksum of 0 counts as one that was not written.
    """
    content, events, start = Path(file).read_bytes(), [], 0
    while start + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        end = start + 12 + length + 4
        if length == 0 or end > len(content):  # no event is empty, but a disk that lost power leaves zeros
            break
        data = content[start + 12 : end - 4]
        if not _is_whole(content[start : start + 8], content[start + 8 : start + 12]):
            break
        if length <= SMALL and not _is_whole(data, content[end - 4 : end]):
            break
        try:
            events.append(Event.FromString(data))
        except DecodeError:
            break
        start = end
    return events, len(content) - start


def _is_whole(data: bytes, checksum: bytes) -> bool:
    return checksum in (bytes(4), struct.pack("<I", masked_crc32c(data)))


def scalars_of(events: Iterable[Event]) -> dict[str, Series]:
    """{tag: Series} of the events of one run, in their order; what a resumed run asked to forget is left out.

    A scalar is a plain number, as tensorboardX and PyTorch write it, or a tensor of one number, as TensorFlow, Keras
    and PyTorch's `new_style=True` do. A tensor says whose it is, "scalars" or "text", at the first value of its tag.
    """
    events, plugins = list(events), {}
    for event in events:
        for value in event.summary.value:
            if value.HasField("metadata") or value.HasField("simple_value"):
                plugins.setdefault(value.tag, value.metadata.plugin_data.plugin_name or "scalars")
    points: dict[str, list[tuple]] = {}
    for event in events:
        if event.session_log.status == SessionLog.START:
            points = {tag: [point for point in known if point[0] < event.step] for tag, known in points.items()}
        for value in event.summary.value:
            number = value.simple_value if value.HasField("simple_value") else None
            if value.HasField("tensor") and plugins.get(value.tag) == "scalars":
                number = _number_in(value.tensor)
            if number is not None:
                points.setdefault(value.tag, []).append((event.step, number, event.wall_time))
    return {tag: Series(*map(np.array, zip(*known, strict=True))) for tag, known in points.items() if known}


def _number_in(tensor: TensorProto) -> float | None:
    """The number that a tensor holds, be it float, double, half, bfloat16 or whole; None for text, or several."""
    try:
        if tensor.dtype == DT_BFLOAT16:  # the upper half of a float32; make_ndarray does not know it
            bits = np.frombuffer(tensor.tensor_content, "<u2") if tensor.tensor_content else np.array(tensor.half_val)
            return (bits.astype(np.uint32) << 16).view(np.float32).item()
        unsigned = [*tensor.uint32_val, *tensor.uint64_val]  # nor these
        return float(np.array(unsigned).item() if unsigned else make_ndarray(tensor).item())
    except (TypeError, ValueError):
        return None


def read_scalars(run_dir: Path | str) -> dict[str, Series]:
    """All scalars of a run, every point of them: {tag: Series}. Read after the logger is closed.

    Raises FileNotFoundError where the directory holds no event file.
    """
    files = event_files(run_dir)
    if not files:
        raise FileNotFoundError(f"No event file in {Path(run_dir).name}: nothing was logged in this directory.")
    return scalars_of(itertools.chain.from_iterable(read_events(file)[0] for file in files))
