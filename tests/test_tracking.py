"""Run logs: nothing lost, nothing mixed, nothing told about the machine, whatever happens to the run."""

import errno
import gc
import getpass
import io
import json
import os
import platform
import re
import shutil
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
import torch.nn as nn
from own_disk import mounting
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import types_pb2
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from course_utils import tracking
from course_utils.board import serve
from course_utils.commands.runs import read_run
from course_utils.events import read_events
from course_utils.pocket import TinyResNet, pocket_input_spec
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


def test_it_reads_what_tensorboards_own_reader_reads(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(1, 11))
        logger.log_scalars({"loss/val": 0.1, "accuracy/val": float("nan")}, 10)
        logger.purge_from(4)
        log(logger, range(5, 8))
    known = EventAccumulator(str(tmp_path / "run")).Reload()
    ours = read_scalars(tmp_path / "run")
    assert {tag for tag in known.Tags()["scalars"] if known.Scalars(tag)} == set(ours) == {"loss/step"}
    for event, *point in zip(known.Scalars("loss/step"), *ours["loss/step"], strict=True):
        assert (event.step, event.value, event.wall_time) == tuple(point)


@pytest.mark.parametrize("tag", ["loss", "a/tag-of_some.length/with/parts"])
def test_a_scalar_takes_at_most_45_bytes_and_its_tag(tmp_path, tag):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(100_000, 101_000), tag)
    (file,) = (tmp_path / "run").iterdir()
    assert file.stat().st_size / 1000 <= 45 + len(tag)


def test_values_that_are_logged_together_share_an_event(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        for step in range(10):
            logger.log_scalars({"loss/step": 0.5, "learning_rate": 0.1, "accuracy": float("nan")}, step)
    (file,) = (tmp_path / "run").iterdir()
    assert len(read_events(file)[0]) == 1 + 10, "the first one names the version of the format"
    series = read_scalars(tmp_path / "run")
    assert {tag: len(of_tag.steps) for tag, of_tag in series.items()} == dict.fromkeys(series, 10)
    assert np.isnan(series["accuracy"].values).all()


def test_a_value_that_is_refused_leaves_nothing_of_its_call(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        for bad, error in (({"loss": 1.0, "a b": 1.0}, ValueError), ({"loss": 1.0, "x": "y"}, ValueError)):
            with pytest.raises(error):
                logger.log_scalars(bad, 0)
        logger.log_scalars({"loss": 2.0}, 0)
    assert read_scalars(tmp_path / "run")["loss"].values.tolist() == [2.0]


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


# --- one writer at a time --------------------------------------------------------------------------------------------


def test_two_loggers_in_one_directory_are_refused_also_to_resume(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(3))
        with pytest.raises(FileExistsError, match=r"Another logger has the directory run open. Close that one first"):
            RunLogger(tmp_path / "run", resume=True)
        log(logger, range(3, 5))
    with RunLogger(tmp_path / "run", resume=True) as logger:
        log(logger, [5])
    assert steps_and_values(tmp_path / "run") == list(range(6))


def test_a_logger_that_is_lost_does_not_hold_its_directory(tmp_path):
    logger = RunLogger(tmp_path / "run")
    writer = logger.writer
    del logger
    gc.collect()
    writer.close()
    RunLogger(tmp_path / "run", resume=True).close()


def test_a_logger_that_could_not_be_made_does_not_hold_its_directory(tmp_path):
    RunLogger(tmp_path / "run").close()
    with pytest.raises(TypeError) as kept:
        RunLogger(tmp_path / "run", resume=True, purge_step="five")
    RunLogger(tmp_path / "run", resume=True).close()
    assert kept


def test_a_file_system_that_cannot_lock_takes_a_run_all_the_same(tmp_path, monkeypatch):
    if tracking.fcntl is None:
        pytest.skip("Windows")

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(tracking.fcntl, "flock", flock)
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(3))
        with pytest.raises(FileExistsError, match="holds a run already"):
            RunLogger(tmp_path / "run")
    assert steps_and_values(tmp_path / "run") == [0, 1, 2]


def test_the_way_of_windows_refuses_a_second_logger_too(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "fcntl", None)
    monkeypatch.setattr(os, "O_TEMPORARY", getattr(os, "O_TEMPORARY", 0), raising=False)
    with RunLogger(tmp_path / "run"), pytest.raises(FileExistsError, match="Another logger has the directory run open"):
        RunLogger(tmp_path / "run", resume=True)


RIVAL = """
    import sys, time
    from pathlib import Path
    from course_utils.tracking import RunLogger

    folder, kept = Path(sys.argv[1]), []
    print("ready", flush=True)
    start = float(input())
    for number in range(20):
        while time.time() < start + number * 0.05:
            pass
        try:
            kept.append(RunLogger(folder / f"run{number}", resume=number % 2 == 0))
            print(number, flush=True)
        except FileExistsError as error:
            print(error, flush=True)
    input()
"""


def test_of_two_processes_that_open_a_directory_in_the_same_instant_one_is_refused(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(RIVAL), str(tmp_path)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    rivals = [subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes) for _ in "ab"]
    try:
        assert [rival.stdout.readline() for rival in rivals] == ["ready\n"] * 2
        for rival in rivals:
            rival.stdin.write(f"{time.time() + 0.5}\n")
            rival.stdin.flush()
        said = [[rival.stdout.readline().strip() for _ in range(20)] for rival in rivals]
    finally:
        for rival in rivals:
            rival.kill()
            rival.communicate()
    for number, pair in enumerate(zip(*said, strict=True)):
        (refused,) = [line for line in pair if line != str(number)]
        assert re.search("Another logger has the directory run.* open|holds a run already", refused)
        assert len(list((tmp_path / f"run{number}").iterdir())) == 1
        RunLogger(tmp_path / f"run{number}", resume=True).close()  # a killed process holds nothing


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
    with pytest.raises(FileExistsError, match="Another logger has the directory run open"):
        RunLogger(run_dir, resume=True)
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


def test_a_file_cut_at_any_byte_is_read_up_to_the_last_whole_record(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(1, 31))
    (file,) = (tmp_path / "run").iterdir()
    content = file.read_bytes()
    starts = records(content)
    assert starts[-1] == len(content) and len(starts) == 32
    for end in range(starts[-4], len(content) + 1):
        file.write_bytes(content[:end])
        whole = sum(start <= end for start in starts[1:]) - 1  # without the first record, which holds no value
        assert steps_and_values(tmp_path / "run") == list(range(1, whole + 1))
        assert read_events(file)[1] == end - starts[whole + 1]


@pytest.mark.parametrize("left", [3, 11, 20, -1], ids=lambda n: f"{n} bytes of the last record")
def test_a_run_whose_file_was_cut_can_be_resumed(tmp_path, left):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(1, 31))
    (file,) = (tmp_path / "run").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:left] if left < 0 else content[: records(content)[-2] + left])
    with RunLogger(tmp_path / "run", resume=True, purge_step=25) as logger:
        log(logger, range(26, 36))
    assert steps_and_values(tmp_path / "run") == list(range(1, 36))


@pytest.mark.parametrize("damage", [bytes(1000), b"\xff" * 1000, (9).to_bytes(8, "little") + b"\xff" * 1000])
def test_what_makes_no_sense_ends_the_reading(tmp_path, damage):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(5))
    (file,) = (tmp_path / "run").iterdir()
    file.write_bytes(file.read_bytes() + damage)
    assert steps_and_values(tmp_path / "run") == list(range(5))
    assert read_events(file)[1] == len(damage)
    file.write_bytes(damage)
    assert read_scalars(tmp_path / "run") == {}


def test_a_killed_run_can_be_resumed(killed_run):
    run_dir, _ = killed_run
    with RunLogger(run_dir, resume=True, purge_step=10) as logger:
        log(logger, range(11, 15))
    assert steps_and_values(run_dir) == list(range(1, 15))


def test_one_flipped_bit_ends_the_reading_and_is_never_read_as_a_value(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, range(1, 6))
    (file,) = (tmp_path / "run").iterdir()
    content = file.read_bytes()
    starts = records(content)
    assert len(starts) == 7 and read_events(file)[1] == 0
    for place in range(len(content)):
        for bit in (0, 6):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            file.write_bytes(damaged)
            whole = sum(start <= place for start in starts[1:])  # records before the damaged one
            events, unread = read_events(file)
            assert (len(events), unread) == (whole, len(content) - starts[whole])
            known = read_scalars(tmp_path / "run")
            assert [float(value) for series in known.values() for value in series.values] == [
                step / 8 for step in range(1, whole)
            ]


# --- scalars that others have written ---------------------------------------------------------------------------------


def write_tensors(file, tensors, tag="loss", plugin="scalars"):
    """As TensorFlow 2 does: the plugin is named with the first value alone. The checksums stay 0: not written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        for step, tensor in enumerate(tensors):
            metadata = SummaryMetadata(plugin_data=dict(plugin_name=plugin)) if step == 0 and plugin else None
            value = Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
            data = Event(wall_time=step + 1, step=step, summary=Summary(value=[value])).SerializeToString()
            stream.write(struct.pack("<Q", len(data)) + bytes(4) + data + bytes(4))


def tensor_proto(kind, shape=(), **content):
    return TensorProto(dtype=kind, tensor_shape=dict(dim=[dict(size=size) for size in shape]), **content)


@pytest.mark.parametrize(
    ("kind", "content", "value"),
    [
        ("DT_FLOAT", dict(float_val=[0.5]), 0.5),
        ("DT_FLOAT", dict(tensor_content=struct.pack("<f", 0.5)), 0.5),
        ("DT_FLOAT", dict(float_val=[0.0]), 0),
        ("DT_FLOAT", dict(float_val=[float("nan")]), float("nan")),
        ("DT_DOUBLE", dict(double_val=[0.1]), 0.1),
        ("DT_DOUBLE", dict(tensor_content=struct.pack("<d", 0.1)), 0.1),
        ("DT_HALF", dict(half_val=[0x3800]), 0.5),
        ("DT_HALF", dict(tensor_content=struct.pack("<e", 0.5)), 0.5),
        ("DT_BFLOAT16", dict(half_val=[0xBF80]), -1),
        ("DT_BFLOAT16", dict(tensor_content=b"\x80\xbf"), -1),
        ("DT_INT32", dict(int_val=[-7]), -7),
        ("DT_INT64", dict(int64_val=[7]), 7),
        ("DT_INT64", dict(tensor_content=struct.pack("<q", -7)), -7),
        ("DT_UINT8", dict(int_val=[7]), 7),
        ("DT_UINT32", dict(uint32_val=[7]), 7),
        ("DT_UINT64", dict(uint64_val=[7]), 7),
        ("DT_BOOL", dict(bool_val=[True]), 1),
    ],
)
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_scalar_that_is_stored_as_a_tensor_is_read(tmp_path, kind, content, value, shape):
    write_tensors(tmp_path / "a tfevents", [tensor_proto(getattr(types_pb2, kind), shape, **content)] * 3)
    series = read_scalars(tmp_path)["loss"]
    assert series.steps.tolist() == [0, 1, 2] and series.wall_times.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(series.values, [value] * 3)


@pytest.mark.parametrize(
    ("plugin", "kind", "content"),
    [
        ("pr_curves", "DT_FLOAT", dict(float_val=[0.5])),
        ("histograms", "DT_DOUBLE", dict(double_val=[0.5])),
        ("hparams", "DT_FLOAT", dict(float_val=[0.5])),
        ("text", "DT_STRING", dict(string_val=[b"0.5"])),
        ("images", "DT_STRING", dict(string_val=[b"2", b"2", b"PNG"])),
        ("", "DT_FLOAT", dict(float_val=[0.5])),
        ("scalars", "DT_STRING", dict(string_val=[b"half"])),
        ("scalars", "DT_FLOAT", dict(tensor_content=b"abc")),
        ("scalars", "DT_INVALID", {}),
    ],
)
def test_another_tensor_is_taken_for_no_scalar(tmp_path, plugin, kind, content):
    write_tensors(tmp_path / "tfevents", [tensor_proto(getattr(types_pb2, kind), **content)], "other", plugin)
    write_tensors(tmp_path / "tfevents.1", [tensor_proto(types_pb2.DT_FLOAT, (2,), float_val=[1, 2])], "two numbers")
    write_tensors(tmp_path / "tfevents.2", [tensor_proto(types_pb2.DT_FLOAT, float_val=[0.25])])
    assert {tag: series.values.tolist() for tag, series in read_scalars(tmp_path).items()} == {"loss": [0.25]}


@pytest.mark.parametrize("first", ["with the plugin", "without it", "by tensorboardX"])
def test_values_in_another_file_than_the_name_of_their_plugin(tmp_path, first):
    half, quarter = (tensor_proto(types_pb2.DT_FLOAT, float_val=[value]) for value in (0.5, 0.25))
    if first == "by tensorboardX":
        with RunLogger(tmp_path) as logger:
            logger.log_scalars({"loss": 0.5}, 0)
    else:
        write_tensors(tmp_path / "a.tfevents", [half], plugin="scalars" if first == "with the plugin" else "")
    write_tensors(tmp_path / "x.tfevents", [quarter], plugin="scalars" if first == "without it" else "")
    assert read_scalars(tmp_path)["loss"].values.tolist() == [0.5, 0.25]


def test_what_pytorchs_and_tensorboards_own_writers_write_is_read(tmp_path):
    from tensorboard.summary import Writer
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path / "torch") as writer:
        for step in range(3):
            writer.add_scalar("old", step / 8, step)
            writer.add_scalar("new", step / 8, step, new_style=True)
            writer.add_scalar("double", step / 8, step, new_style=True, double_precision=True)
        writer.add_pr_curve("curve", np.array([0, 1]), np.array([0.5, 0.5]))
        writer.add_text("note", "0.5")
        writer.add_histogram("weights", np.ones(3))
    writer = Writer(str(tmp_path / "tensorboard"))
    for step in range(3):
        writer.add_scalar("loss", step / 8, step=step)
    writer.close()
    for run, tags in (("torch", ["old", "new", "double"]), ("tensorboard", ["loss"])):
        found = read_scalars(tmp_path / run)
        assert sorted(found) == sorted(tags)
        for tag in tags:
            assert found[tag].values.tolist() == [0, 0.125, 0.25] and found[tag].steps.tolist() == [0, 1, 2]


# --- a log that is deleted while it is open ---------------------------------------------------------------------------


def delete_log(run_dir, what):
    if what == "the file":
        (file,) = run_dir.iterdir()
        file.unlink()
    else:
        shutil.rmtree(run_dir)
    if what == "the directory, made again":
        run_dir.mkdir()


@pytest.mark.skipif(os.name == "nt", reason="Windows deletes no file that is open")
@pytest.mark.parametrize("what", ["the directory", "the directory, made again", "the file"])
@pytest.mark.parametrize("noticed", ["at the next value", "at close"])
def test_a_log_that_is_deleted_while_it_is_open_is_told_of(tmp_path, what, noticed):
    logger = RunLogger(tmp_path / "run")
    log(logger, [1])
    delete_log(tmp_path / "run", what)
    thread = logger.writer.file_writer.event_writer._worker
    with pytest.raises(OSError, match=r"The log of run was deleted .*: what this logger had written is lost"):
        logger.close() if noticed == "at close" else log(logger, [2])
    assert not thread.is_alive()
    logger.close()
    with pytest.raises(ValueError, match="The logger of run is closed"):
        log(logger, [3])
    with RunLogger(tmp_path / "run") as logger:
        log(logger, [1])
    assert steps_and_values(tmp_path / "run") == [1]


@pytest.mark.skipif(os.name == "nt", reason="Windows renames no directory in which a file is open")
def test_a_run_that_is_renamed_while_it_is_open_loses_nothing(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        log(logger, [1])
        (tmp_path / "run").rename(tmp_path / "other")
        log(logger, [2])
    assert steps_and_values(tmp_path / "other") == [1, 2]


# --- images -----------------------------------------------------------------------------------------------------------


def view(run_dir):
    return EventAccumulator(str(run_dir), size_guidance=dict(images=0, histograms=0, tensors=0)).Reload()


def pixels(run_dir, tag):
    """What stands in the file under a tag: (H, W, 3) of each step."""
    return [np.array(Image.open(io.BytesIO(event.encoded_image_string))) for event in view(run_dir).Images(tag)]


def test_inputs_of_a_network_are_turned_back_into_its_images(tmp_path):
    spec = pocket_input_spec()
    images = torch.randint(256, (3, 3, spec.size, spec.size), dtype=torch.uint8)
    with RunLogger(tmp_path / "run") as logger:
        logger.log_image("inputs", spec(images).requires_grad_(), 1, spec)
        logger.log_image("inputs", spec(images)[0], 2, spec)
        logger.log_image("as_they_are", images, 2)
    side_by_side = torch.cat(list(images), dim=2).permute(1, 2, 0).numpy()
    batch, single = pixels(tmp_path / "run", "inputs")
    assert np.abs(batch.astype(int) - side_by_side).max() <= 1
    assert np.abs(single.astype(int) - side_by_side[:, : spec.size]).max() <= 1
    assert (pixels(tmp_path / "run", "as_they_are")[0] == side_by_side).all()


def test_what_lies_outside_is_clipped_and_does_not_wrap_around(tmp_path):
    spec = pocket_input_spec()
    inputs = torch.tensor([-100.0, 100.0, float("nan"), float("inf")]).view(1, 1, 1, 4).expand(1, 3, 1, 4)
    with RunLogger(tmp_path / "run") as logger:
        logger.log_image("inputs", inputs, 0, spec)
        logger.log_image("grey", torch.tensor([[[0.0, 0.5, 1.0]]], dtype=torch.float64), 0)
    assert pixels(tmp_path / "run", "inputs")[0][0, :, 0].tolist() == [0, 255, 0, 255]
    assert pixels(tmp_path / "run", "grey")[0][0].tolist() == [[0] * 3, [128] * 3, [255] * 3]


def test_images_that_tensorboard_would_show_wrongly_are_refused(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        with pytest.raises(ValueError, match=r"'x' reach from -1 to 2: .*spec=model.input_spec"):
            logger.log_image("x", torch.tensor([-1.0, 2.0, 0.0]).view(3, 1, 1), 0)
        for shape in ((4, 4), (2, 4, 4), (1, 4, 4, 3), (0, 3, 4, 4)):
            with pytest.raises(ValueError, match=r"Expected images \(B, 3, H, W\).*" + re.escape(str(shape[-1]))):
                logger.log_image("x", torch.zeros(shape), 0)
        logger.log_image("x", torch.zeros(3, 4, 4), 0)
        with pytest.raises(ValueError, match="logged at step 0 already"):
            logger.log_image("x", torch.zeros(3, 4, 4), 0)


# --- histograms of weights and gradients ------------------------------------------------------------------------------


def test_weights_and_gradients_are_logged_by_layer(tmp_path):
    model = TinyResNet(num_classes=10)
    model.fc(torch.ones(4, 128)).sum().backward()
    with RunLogger(tmp_path / "run") as logger:
        assert logger.log_weights(model, 1) == {}
        size = next((tmp_path / "run").iterdir()).stat
        logger.log_weights(model, 2)
    seen = view(tmp_path / "run")
    names = [name for name, _ in model.named_parameters()]
    assert set(seen.Tags()["histograms"]) == {
        *(f"weights/{name}" for name in names),
        "gradients/fc.weight",
        "gradients/fc.bias",
    }
    assert seen.Tags()["scalars"] == []
    for tag, values in (("weights/conv1.weight", model.conv1.weight), ("gradients/fc.bias", model.fc.bias.grad)):
        histogram = seen.Histograms(tag)[-1].histogram_value
        assert histogram.num == values.numel() == sum(histogram.bucket)
        assert (histogram.min, histogram.max) == (values.min().item(), values.max().item())
    assert size().st_size / 2 < 1300 * (len(names) + 2)


def test_what_is_not_finite_is_counted_and_stops_nothing(tmp_path):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(0), nn.Linear(3, 2).to(torch.bfloat16))
    with torch.no_grad():
        model[0].weight[0] = float("nan")
        model[0].weight[1, 0] = float("-inf")
    model[0].bias.grad = torch.full((3,), float("inf"))
    model[2].weight.grad = torch.ones(2, 3, dtype=torch.bfloat16).to_sparse()
    expected = {"weights/0.weight": 5, "gradients/0.bias": 3}
    with RunLogger(tmp_path / "run") as logger:
        assert logger.log_weights(model, 7) == expected
    seen = view(tmp_path / "run")
    assert seen.Histograms("weights/0.weight")[0].histogram_value.num == 7
    assert {"gradients/0.bias", "weights/1.weight"}.isdisjoint(seen.Tags()["histograms"])
    assert {"gradients/2.weight", "weights/2.bias"} <= set(seen.Tags()["histograms"])
    counted = read_scalars(tmp_path / "run")
    assert {tag: series.values.tolist() for tag, series in counted.items()} == {
        f"not_finite/{tag}": [count] for tag, count in expected.items()
    }


# --- hyper-parameters, the configuration, and what TensorBoard makes of a resumed run ---------------------------------


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    """TensorBoard, with its usual loader and its older one, on two runs of a search and on a resumed run."""
    folder = tmp_path_factory.mktemp("boards")
    searched = {"small": dict(lr=0.1, optimizer="SGD"), "large": dict(lr=torch.tensor(0.5), betas=(0.9, 0.99))}
    for name, hparams in searched.items():
        with RunLogger(folder / name) as logger:
            log(logger, range(1, 6))
            logger.log_hparams(hparams, {"accuracy/val": 0.75})
            logger.log_config({"data | set": Path("/home/somebody/digits"), "note": "a\nb", "optimizer": "adam"})
    with RunLogger(folder / "resumed") as logger:
        for step in range(1, 21):
            logger.log_scalars({"loss/step": step / 8 if step <= 12 else 99.0}, step)
            if step % 6 == 0:
                logger.log_scalars({"loss/val": step / 8 if step <= 12 else 99.0}, step)
    with RunLogger(folder / "resumed", resume=True, purge_step=12) as logger:
        log(logger, range(13, 16))
        log(logger, [15], "loss/val")
    with serve(folder) as usual, serve(folder, ["--load_fast=false"]) as older:
        yield usual, older


def test_tensorboard_shows_a_resumed_run_as_one_clean_series(boards):
    for board in boards:
        for tag, steps in (("loss/step", list(range(1, 16))), ("loss/val", [6, 12, 15])):
            points = board.get_when_read("data/plugin/scalars/scalars", run="resumed", tag=tag)
            assert [(step, value) for _, step, value in points] == [(step, step / 8) for step in steps]


def test_the_hparams_page_has_one_row_a_run_and_every_column(boards):
    for board in boards:
        for run in ("small", "large"):
            board.get_when_read("data/plugin/scalars/scalars", run=run, tag="hparams/accuracy/val")
        assert set(board.get("data/runs")) == {"small", "large", "resumed"}, "no run named by the time"
        found = board.get("data/plugin/hparams/experiment", request=json.dumps({"experimentName": ""}))
        assert {column["name"] for column in found["hparamInfos"]} == {"lr", "optimizer", "betas"}
        assert "hparams/accuracy/val" in {column["name"]["tag"] for column in found["metricInfos"]}
        question = dict(experimentName="", allowedStatuses=["STATUS_SUCCESS"], colParams=[], startIndex=0, sliceSize=9)
        found = board.get("data/plugin/hparams/session_groups", request=json.dumps(question))["sessionGroups"]
        assert {row["name"]: row["hparams"] for row in found} == {
            "small": {"lr": 0.1, "optimizer": "SGD"},
            "large": {"lr": 0.5, "betas": "(0.9, 0.99)"},
        }
        values = [
            metric["value"] for row in found for metric in row["metricValues"] if "accuracy" in str(metric["name"])
        ]
        assert values == [0.75, 0.75]


@pytest.mark.parametrize(
    ("value", "entered"),
    [
        (0.5, 0.5), (3, 3), (True, True), (np.float32(0.5), 0.5), (np.array([2]), 2), (torch.tensor(True), True),
        (torch.tensor([1.0, 5.0]), "tensor([1., 5.])"), (np.array([[1.0, 5.0], [2.0, 3.0]]), "[[1. 5.] [2. 3.]]"),
        (torch.empty(2, device="meta"), "tensor(..., device='meta', size=(2,))"), (torch.float16, "torch.float16"),
        (np.array([]), "[]"), (2**53, 2**53), (2**70, str(2**70)), (-(2**64), str(-(2**64))), (1j, "1j"),
        (np.complex64(1j), "1j"), ("Adam", "Adam"), (None, "None"), ([1, 2], "[1, 2]"), ({"a": 1}, "{'a': 1}"),
        (np.str_("SGD"), "SGD"), ("caf\udce9", "caf\\udce9"), (b"x", "b'x'"), (float("inf"), float("inf")),
    ],
)  # fmt: skip
def test_a_hyper_parameter_of_any_kind_is_entered_as_a_number_or_as_text(tmp_path, value, entered):
    with RunLogger(tmp_path / "run") as logger:
        logger.log_hparams({"chosen": value, 7: 0.5}, {"accuracy": 0.5})
    assert read_run(tmp_path / "run", "run").hparams == {"7": 0.5, "chosen": entered}


def test_a_value_that_is_not_one_number_is_named(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        for value in (torch.ones(2), np.ones(2), [1.0], "x", 2**2000):
            with pytest.raises((TypeError, ValueError, RuntimeError, OverflowError)) as error:
                logger.log_scalars({"loss": 1.0, "accuracy": value}, 0)
            assert error.value.__notes__ == ["This is the value of 'accuracy', which must be one number."]
        logger.log_scalars({"loss": 1.0}, 0)
    assert list(read_scalars(tmp_path / "run")) == ["loss"]


def test_the_configuration_is_a_table_on_the_text_page(boards):
    shown = boards[0].get_when_read("data/plugin/text/text", run="small", tag="config/text_summary")[0]["text"]
    cells = re.findall(r"<t[dh]>([^<]*)</t[dh]>", shown)
    assert cells == ["name", "value", "data | set", ".../digits", "note", "a b", "optimizer", "adam"]


def test_the_environment_tells_versions_and_the_device_and_nothing_of_the_user(tmp_path):
    with RunLogger(tmp_path / "run") as logger:
        logger.log_config({})
    (text,) = view(tmp_path / "run").Tensors("environment/text_summary")[0].tensor_proto.string_val
    for known in (platform.python_version(), torch.__version__.split("+")[0], "tensorboardX", "Computing on the"):
        assert known in text.decode()
    for secret in (socket.gethostname(), getpass.getuser(), str(ROOT), str(Path.home())):
        assert not re.search(rf"\b{re.escape(secret)}\b", text.decode())


def test_a_closed_logger_refuses_everything(tmp_path):
    logger = RunLogger(tmp_path / "run")
    logger.close()
    for call in (
        lambda: logger.log_image("x", torch.zeros(3, 4, 4), 0),
        lambda: logger.log_weights(nn.Linear(2, 2), 0),
        lambda: logger.log_hparams({"lr": 0.1}, {"accuracy": 1.0}),
        lambda: logger.log_config({}),
    ):
        with pytest.raises(ValueError, match="The logger of run is closed"):
            call()


def test_the_benchmark_of_its_cost_runs():
    from benchmarks.logging_cost import measure

    found = measure(rounds=2, steps=1, calls=20)
    assert [len(values) for values in found.values()] == [2, 2, 2] and min(found["step"]) > 0


def test_a_full_disk_ends_the_training_and_does_not_hold_it_up(tmp_path):
    """tensorboardX's thread dies of it, and what is handed to it then fills a queue that nobody empties."""
    program = """
        import sys
        from pathlib import Path
        from course_utils.tracking import RunLogger, read_scalars

        long, short, other = (Path(sys.argv[1], name) for name in ("long", "short", "other"))
        other.write_bytes(bytes(50_000))
        try:
            with RunLogger(long) as logger:
                for step in range(20000):
                    logger.log_scalars({"loss/step": 0.5}, step)
        except OSError as error:
            print(error)
        print("read back:", len(read_scalars(long)["loss/step"].steps))
        try:
            with RunLogger(short) as logger:  # closed before the thread has tried to write
                logger.log_scalars({"loss/step": 0.5}, 0)
        except OSError as error:
            print(error)
        other.unlink()
        with RunLogger(short, resume=True) as logger:
            logger.log_scalars({"loss/step": 0.5}, 1)
        print("in the end:", read_scalars(short)["loss/step"].steps)
    """
    command = [*mounting("size=200k"), tmp_path, sys.executable, "-c", textwrap.dedent(program), tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)  # it would last for ever
    assert "The log of long can no longer be written" in done.stdout, done.stderr
    assert 1000 < int(re.search(r"read back: (\d+)", done.stdout)[1]) < 20000
    assert "No space left on device" in done.stderr
    assert "The log of short can no longer be written" in done.stdout, done.stderr
    assert "in the end: [1]" in done.stdout, done.stderr
