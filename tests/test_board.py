"""TensorBoard started, asked and stopped: it leaves nothing behind, and says why where it does not start."""

import socket
import subprocess
import sys
import urllib.error
import urllib.parse

import psutil
import pytest

from course_utils import board as board_module
from course_utils.board import Board, serve
from course_utils.tracking import RunLogger

SCALARS = "data/plugin/scalars/scalars"


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """A folder, with a blank and letters of another script in its name, that holds one run."""
    folder = tmp_path_factory.mktemp("board") / "my runs 结果"
    with RunLogger(folder / "first") as logger:
        for step in range(5):
            logger.log_scalars({"loss/step": step / 8}, step)
    return folder


@pytest.fixture(scope="module")
def boards(logdir):
    """Two at the same time, on the same folder."""
    with serve(logdir) as one, serve(logdir, ["--load_fast=false"]) as other:
        yield one, other


def test_it_shows_what_was_logged_with_either_of_its_loaders(boards):
    assert boards[0].url != boards[1].url
    for board in boards:
        points = board.get_when_read(SCALARS, run="first", tag="loss/step")
        assert [(step, value) for _, step, value in points] == [(step, step / 8) for step in range(5)]
        assert board.get("data/runs") == ["first"]


def test_the_options_reach_it(boards):
    flags = [board.get("data/environment")["debug"]["flags"]["load_fast"] for board in boards]
    assert flags == ["auto", "false"]


def test_what_is_no_json_comes_as_bytes(boards):
    assert b"<!doctype html>" in boards[0].get("").lower()


def test_what_it_does_not_know_is_an_error(boards):
    boards[0].get_when_read(SCALARS, run="first", tag="loss/step")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        boards[0].get(SCALARS, run="second", tag="loss/step")
    with pytest.raises(TimeoutError, match=r"nothing under data/.*'run': 'second'.* for 0.5 s"):
        Board(boards[0].url, patience=0.5).get_when_read(SCALARS, run="second", tag="loss/step")


def test_a_proxy_of_the_system_is_not_asked(boards, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert boards[0].get("data/runs") == ["first"]


def test_it_is_gone_after_the_block_also_after_an_error_in_it(logdir, tmp_path, monkeypatch):
    monkeypatch.setattr(board_module.tempfile, "tempdir", str(tmp_path))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with pytest.raises(KeyboardInterrupt), serve(logdir) as board:
        started = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
        assert started and list(tmp_path.iterdir())
        raise KeyboardInterrupt
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == [] and list(tmp_path.iterdir()) == []
    with socket.socket() as place, pytest.raises(OSError):
        place.connect(("127.0.0.1", urllib.parse.urlsplit(board.url).port))


def test_where_it_does_not_start_its_own_last_words_are_told(logdir):
    with pytest.raises(RuntimeError, match="ended at once.*arguments: --nonsense"), serve(logdir, ["--nonsense"]):
        pass


def test_where_it_never_answers_it_is_given_up_and_stopped(logdir, monkeypatch):
    popen, started = subprocess.Popen, []

    def sleeper(command, **options):
        started.append(popen([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", sleeper)
    with pytest.raises(RuntimeError, match="not answered within 0.3 s. It says: nothing"), serve(logdir, patience=0.3):
        pass
    assert started[0].poll() is not None


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no directory nowhere to show: log a"), serve(tmp_path / "nowhere"):
        pass
