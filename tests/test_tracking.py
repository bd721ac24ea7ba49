"""Run logs: nothing lost, nothing mixed, nothing told about the machine, whatever happens to the run."""

import os
import socket
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from course_utils.tracking import RunLogger, fresh_run_dir, read_scalars

ROOT = Path(__file__).resolve().parents[1]


def log(logger, steps, tag="loss/step"):
    for step in steps:
        logger.log_scalars({tag: step / 8}, step)  # eighths are exact in the float32 of an event file


def steps_and_values(run_dir, tag="loss/step"):
    series = read_scalars(run_dir)[tag]
    assert series.values.tolist() == [step / 8 for step in series.steps]
    return series.steps.tolist()


# --- what is logged is what is read ---------------------------------------------------------------------------------


def test_every_value_is_read_back_at_its_step(tmp_path):
    logged = {"loss/train": [2.5, 0.125, -3.0], "accuracy/val": [0.0, 1.0, 0.5]}
    started = time.time()
    with RunLogger(tmp_path / "run") as logger:
        for i, step in enumerate((0, 1, 70_000)):
            logger.log_scalars({tag: values[i] for tag, values in logged.items()}, step)
    read = read_scalars(tmp_path / "run")
    assert {tag: series.values.tolist() for tag, series in read.items()} == logged
    for series in read.values():
        assert series.steps.tolist() == [0, 1, 70_000]
        assert ((series.wall_times > started - 1) & (series.wall_times < time.time() + 1)).all()


def test_numbers_of_every_kind_can_be_logged(tmp_path):
    values = [1, True, np.float32(0.5), np.array(2.0), torch.tensor(3.0), torch.tensor([4.0], dtype=torch.bfloat16)]
    with RunLogger(tmp_path / "run") as logger:
        for step, value in enumerate(values):
            logger.log_scalars({"value": value}, step)
    assert read_scalars(tmp_path / "run")["value"].values.tolist() == [1, 1, 0.5, 2, 3, 4]


def test_more_points_are_read_than_tensorboard_shows(tmp_path):
    """TensorBoard keeps 1,000 points of a curve and its reader 10,000, unless told otherwise."""
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(12_000))
    assert steps_and_values(tmp_path / "run") == list(range(12_000))


def test_nothing_is_lost_when_a_logger_is_closed(tmp_path):
    for i in range(10):
        with RunLogger(tmp_path / f"run{i}") as logger:
            log(logger, range(i + 1))
        assert steps_and_values(tmp_path / f"run{i}") == list(range(i + 1))


def test_an_error_in_the_loop_closes_the_logger_and_loses_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), RunLogger(tmp_path / "run") as logger:
        log(logger, range(5))
        raise KeyboardInterrupt
    assert steps_and_values(tmp_path / "run") == list(range(5))


def test_a_closed_logger_refuses_more_and_may_be_closed_twice(tmp_path):
    logger = RunLogger(tmp_path / "run")
    log(logger, range(3))
    logger.close()
    with pytest.raises(ValueError, match=r"logger of run is closed; .*resume=True"):
        log(logger, [3])
    logger.close()
    assert steps_and_values(tmp_path / "run") == [0, 1, 2]


def test_a_directory_without_a_run_is_an_error(tmp_path):
    for run_dir in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"No event file in {run_dir.name}"):
            read_scalars(run_dir)


# --- one run, one directory, one clean series -----------------------------------------------------------------------


def test_a_second_run_in_the_same_directory_is_refused_and_harms_nothing(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(3))
        with pytest.raises(FileExistsError, match="run holds a run already.*resume=True"):
            RunLogger(tmp_path / "run")
    with pytest.raises(FileExistsError) as error:
        RunLogger(tmp_path / "run")
    assert str(tmp_path) not in str(error.value)
    assert steps_and_values(tmp_path / "run") == [0, 1, 2]
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_a_fresh_directory_is_found_beside_those_in_use(tmp_path):
    found = []
    for _ in range(3):
        run_dir = fresh_run_dir(tmp_path / "run")
        found.append(run_dir.name)
        RunLogger(run_dir).close()
    assert found == ["run", "run-2", "run-3"]
    assert fresh_run_dir(str(tmp_path / "other")).name == "other"


def test_a_resumed_run_goes_on_where_it_stopped(tmp_path):
    for steps in (range(1, 6), range(6, 9), range(9, 12)):
        with RunLogger(tmp_path / "run", resume=True) as logger:
            log(logger, steps)
    assert steps_and_values(tmp_path / "run") == list(range(1, 12))


def test_a_run_resumed_from_an_earlier_step_forgets_what_came_after_it(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        for step in range(1, 21):  # a checkpoint is written at step 12; what came after it was in vain
            logger.log_scalars({"loss/step": step / 8 if step <= 12 else 99.0}, step)
            if step % 6 == 0:
                logger.log_scalars({"loss/val": step / 8 if step <= 12 else 99.0}, step)
    with RunLogger(tmp_path / "run", resume=True, purge_step=12) as logger:
        log(logger, range(13, 16))
    assert steps_and_values(tmp_path / "run") == list(range(1, 16))
    assert steps_and_values(tmp_path / "run", "loss/val") == [6, 12], "also where nothing was logged anew"


def test_a_logger_can_be_sent_back_in_mid_run(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(1, 11))
        logger.purge_from(4)
        log(logger, range(5, 8))
    assert steps_and_values(tmp_path / "run") == list(range(1, 8))


def test_a_step_that_goes_back_or_stands_still_is_refused(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(5))
        logger.log_scalars({"loss/val": 0.5}, 2)  # each curve has steps of its own
        for step in (4, 0):
            with pytest.raises(ValueError, match=f"'loss/step' was logged at step 4 already, and now at {step}"):
                log(logger, [step])
        log(logger, [5])
    assert steps_and_values(tmp_path / "run") == list(range(6))


def test_a_resumed_run_knows_where_it_stopped(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(5))
    with (
        RunLogger(tmp_path / "run", resume=True) as logger,
        pytest.raises(ValueError, match="logged at step 4 already, and now at 0"),
    ):
        log(logger, range(5))


@pytest.mark.parametrize("step", [0.5, 1.0, -1, None, "3"])
def test_a_step_that_is_no_whole_number_from_0_is_refused(tmp_path, step):
    """tensorboardX cuts 0.1, 0.2, 0.3 to step 0, where TensorBoard shows the last of them alone."""
    with RunLogger(tmp_path / "run") as logger, pytest.raises(ValueError, match="whole number from 0"):
        logger.log_scalars({"loss": 1.0}, step)


@pytest.mark.parametrize("tag", ["train loss", "loss (%)", "/loss", ""])
def test_a_tag_that_tensorboardx_would_rename_is_refused(tmp_path, tag):
    with RunLogger(tmp_path / "run") as logger, pytest.raises(ValueError, match="would be renamed silently"):
        logger.log_scalars({tag: 1.0}, 0)


def test_writers_of_the_same_second_do_not_overwrite_each_other(tmp_path, monkeypatch):
    """tensorboardX names its files by the second, and opens them anew: the second writer would empty the first's."""
    with monkeypatch.context() as patch:
        patch.setattr("tensorboardX.event_file_writer.time.time", lambda: 1_700_000_000.0)
        for start in (0, 3, 6):
            with RunLogger(tmp_path / "run", resume=True) as logger:
                log(logger, range(start, start + 3))
    names = [path.name for path in (tmp_path / "run").iterdir()]
    assert len(names) == 3 and all(".1700000000." in name for name in names)
    assert steps_and_values(tmp_path / "run") == list(range(9))


def test_files_tell_neither_the_machine_nor_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "a-telling-name")
    for variable in ("LOGNAME", "USER", "USERNAME"):
        monkeypatch.setenv(variable, "somebody-known")
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(3))
    (file,) = (tmp_path / "run").iterdir()
    assert "tfevents" in file.name
    for secret in ("a-telling-name", "somebody-known", str(tmp_path)):
        assert secret not in file.name and secret.encode() not in file.read_bytes()
    assert socket.gethostname() == "a-telling-name", "the name is hidden only while the file is opened"


# --- a run that is killed -------------------------------------------------------------------------------------------


def test_a_value_is_on_disk_after_about_a_second_without_being_closed(tmp_path):
    logger = RunLogger(tmp_path / "run")
    try:
        log(logger, range(5))
        deadline = time.monotonic() + 10  # a busy machine is given more than it should need
        while "loss/step" not in (read := read_scalars(tmp_path / "run")) or len(read["loss/step"].steps) < 5:
            assert time.monotonic() < deadline, "still not on disk"
            time.sleep(0.1)
    finally:
        logger.close()


KILLED = """
    import sys, time
    from course_utils.tracking import RunLogger

    logger = RunLogger(sys.argv[1])
    for step in range(1, 10_000):
        logger.log_scalars({"loss/step": step / 8}, step)
        print(step, time.time(), flush=True)
        time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory):
    """The directory of a run that was killed after 3 seconds, and when it had logged each step."""
    run_dir = tmp_path_factory.mktemp("killed") / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(run_dir)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    first = process.stdout.readline()
    time.sleep(3)
    process.kill()
    lines = [first, *process.communicate()[0].splitlines()]
    logged = {int(step): float(at) for step, at in (line.split() for line in lines if line.count(" ") == 1)}
    return run_dir, logged


def test_a_killed_run_has_lost_its_last_two_seconds_at_most(killed_run):
    run_dir, logged = killed_run
    steps = steps_and_values(run_dir)
    assert steps == list(range(1, len(steps) + 1)), "no gap"
    assert max(logged.values()) - logged[steps[-1]] < 2
    assert len(steps) > 20


def records(content):
    """Where each record of an event file begins: its length in 8 bytes, their checksum in 4, the data, 4 more."""
    starts = [0]
    while starts[-1] + 8 <= len(content):
        (length,) = struct.unpack("<Q", content[starts[-1] : starts[-1] + 8])
        starts.append(starts[-1] + 12 + length + 4)
    return starts


@pytest.mark.parametrize("left", [3, 8, 11, 12, 20, -1], ids=lambda n: f"{n} bytes of the last record")
def test_a_file_cut_within_a_record_is_read_up_to_it_and_can_be_resumed(tmp_path, left):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(1, 31))
    (file,) = (tmp_path / "run").iterdir()
    content = file.read_bytes()
    *_, last, end = records(content)
    assert end == len(content)
    file.write_bytes(content[:left] if left < 0 else content[: last + left])
    assert steps_and_values(tmp_path / "run") == list(range(1, 30))
    with RunLogger(tmp_path / "run", resume=True, purge_step=25) as logger:
        log(logger, range(26, 36))
    assert steps_and_values(tmp_path / "run") == list(range(1, 36))


def test_a_killed_run_can_be_resumed(killed_run):
    run_dir, _ = killed_run
    with RunLogger(run_dir, resume=True, purge_step=10) as logger:
        log(logger, range(11, 15))
    assert steps_and_values(run_dir) == list(range(1, 15))
