"""What the exercises of notebook 04b call right is what TensorBoard does."""

import pytest
from tensorboardX import SummaryWriter

from course_utils.board import serve
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
