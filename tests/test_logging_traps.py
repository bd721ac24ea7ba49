"""What the notebooks say of tensorboardX's buffer, and what the exercises of 04b call right, is what happens."""

import functools
import subprocess
import sys
import textwrap

import pytest
from tensorboardX import SummaryWriter, record_writer
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from course_utils.board import serve
from course_utils.events import read_events
from course_utils.exercises import logging_traps

LOGGED = {
    "resumed": [1, 2, 3, 4, 5, 4, 5, 6],
    "restarting": [0, 1, 2, 3, 0, 1],
    "without": [0, 0, 0],
    "late": [2, 4, 6, 5],
    "epochs": [epoch for epoch in range(5) for _ in range(40)],
}


def test_what_the_exercises_call_drawn_is_what_tensorboard_draws(tmp_path):
    usual_reader = pytest.importorskip("tensorboard_data_server")
    if usual_reader.server_binary() is None:
        pytest.skip("TensorBoard's usual reader is not to be had for this system")
    with SummaryWriter(str(tmp_path / "run")) as writer:
        for tag, steps in LOGGED.items():
            for step in steps:
                writer.add_scalar(tag, 1.0, step)
    with serve(tmp_path) as board:
        points = {tag: board.get_when_read("data/plugin/scalars/scalars", run="run", tag=tag) for tag in LOGGED}
    drawn = {tag: [step for _, step, _ in served] for tag, served in points.items()}
    assert drawn == {tag: logging_traps.q2.right(steps) for tag, steps in LOGGED.items()}
    assert len(drawn["epochs"]) == logging_traps.q1.right


CRASHES = """
    import os, sys, time
    from tensorboardX import SummaryWriter

    for count in (60, 6000):
        writer = SummaryWriter(f"{sys.argv[1]}/{count}")
        for step in range(1, count + 1):
            writer.add_scalar("loss", 2.3, step)
    time.sleep(1)
    os._exit(1)
"""


def test_a_crash_loses_what_is_in_the_buffer_and_only_that(tmp_path):
    """60 values do not fill a buffer. Of 6,000 those in full buffers are there, also with the larger one of 3.14."""
    crash = subprocess.run([sys.executable, "-c", textwrap.dedent(CRASHES), str(tmp_path)])
    assert crash.returncode == 1
    (few,), (many,) = (list((tmp_path / count).iterdir()) for count in ("60", "6000"))
    assert few.read_bytes() == b""
    steps = [event.step for event in read_events(many)[0] if event.summary.value]
    assert steps == list(range(1, len(steps) + 1))
    assert 2900 < len(steps) < 6000


@pytest.mark.parametrize(("size", "values"), [(4096, 95), (131_072, 3000)])  # Python up to 3.13, and from 3.14 on
def test_a_buffer_holds_about_as_many_values_as_the_notebooks_say(tmp_path, monkeypatch, size, values):
    monkeypatch.setattr(record_writer, "open_file", functools.partial(open, mode="wb", buffering=size))
    writer = EventsWriter(str(tmp_path / "events"))
    (file,) = tmp_path.iterdir()
    step = 0
    while not file.stat().st_size:
        step += 1
        writer.write_event(Event(wall_time=1.8e9, step=step, summary=scalar("loss", 2.3)))
    writer.close()
    assert step == pytest.approx(values, rel=0.05)
