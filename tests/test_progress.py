"""Progress: which exercises are solved is kept, whatever happens to the file; and a check always answers."""

import errno
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from filelock import FileLock

from course_utils import exercises
from course_utils.__main__ import main
from course_utils.exercises import memory

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = {question.name: question for questions in exercises.BY_NOTEBOOK.values() for question in questions}


@pytest.fixture(autouse=True)
def progress(tmp_path, monkeypatch):
    """A progress file of the test's own."""
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


def test_progress_is_remembered_and_printed(progress, capsys):
    q1, q2 = QUESTIONS["loss.q1"], QUESTIONS["loss.q2"]
    q1.check()  # no answer: nothing to remember
    assert not progress.exists()
    q1.check(3.0)
    q1.check(3.61)
    q1.check(1.0)  # what was right once stays so
    q2.check(0)
    assert json.loads(progress.read_text()) == {"loss.q1": "right", "loss.q2": "tried"}
    capsys.readouterr()
    assert main(["progress"]) == 0
    printed = capsys.readouterr().out
    assert "02_loss_derivation: 1 of 5" in printed
    assert re.search(r"right +loss\.q1 +The first loss", printed)
    assert re.search(r"tried +loss\.q2", printed) and re.search(r"open +cnn\.q1", printed)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"loss.q1": 7}', b'"right"'])
def test_a_broken_progress_file_costs_only_the_memory(progress, content, capsys):
    progress.write_bytes(content)
    QUESTIONS["loss.q1"].check(3.61)
    printed = capsys.readouterr().out
    assert "RIGHT" in printed
    assert memory.states_in(progress) == {"loss.q1": "right"}
    aside = [path for path in progress.parent.iterdir() if "damaged" in path.name]
    assert [path.read_bytes() for path in aside] == ([content] if b"q1" not in content else []), "nothing is lost"
    assert all(f"is kept as {path.name} in" in printed and path.suffix != ".json" for path in aside)


def test_the_progress_of_a_class_is_one_table(tmp_path, capsys):
    (tmp_path / "anna.json").write_text('{"loss.q1": "right", "loss.q2": "tried", "clinic.ada": "right"}')
    (tmp_path / "bo.json").write_text('{"loss.q1": "right", "cnn.q1": "right", "loss.q2": "tried", "cnn.q2": "tried"}')
    assert main(["progress", str(tmp_path)]) == 0
    head, anna, bo, of, *stuck = capsys.readouterr().out.splitlines()
    assert anna.split()[0] == "anna" and anna.split()[-1] == "1", "patients of the clinic are no exercises"
    right = dict(zip(head.split(), bo.split()[1:], strict=True))
    assert (right["02"], right["03"], right["all"]) == ("1", "1", "2")
    assert of.split()[-1] == str(len(QUESTIONS))
    assert stuck == ["tried, and not yet right: loss.q2 (2)", "tried, and not yet right: cnn.q2 (1)"]


def test_a_file_of_the_class_that_cannot_be_read_is_named(tmp_path, capsys):
    (tmp_path / "anna.json").write_text("[]")
    assert main(["progress", str(tmp_path / "anna.json")]) == 1
    assert "anna.json is no progress file" in capsys.readouterr().err
    assert main(["progress", str(tmp_path / "nobody.json")]) == 1
    (tmp_path / "anna.json").write_text("{}")
    assert main(["progress", str(tmp_path / "anna.json"), str(tmp_path / "anna.json")]) == 1
    assert "a name of its own" in capsys.readouterr().err


def test_where_nothing_can_be_written_the_check_still_answers(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "file" / "progress.json"))  # a file in the folder's place
    QUESTIONS["loss.q1"].check(3.61)
    printed = capsys.readouterr().out
    assert "RIGHT" in printed and "so this answer is checked, but not noted there" in printed
    assert main(["progress"]) == 0
    assert "Your progress cannot be read, so every exercise is shown as open. NotADirectory" in capsys.readouterr().out


def test_without_the_variable_it_lies_where_the_system_keeps_such_things(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    for platform in ("linux", "win32", "darwin"):
        monkeypatch.setattr("sys.platform", platform)
        assert memory.progress_file().parts[-2:] == ("finetune-course", "progress.json")
        assert platform == "darwin" or memory.progress_file().parent.parent == tmp_path


def test_the_tests_and_their_kernels_use_a_temporary_one():
    assert "COURSE_PROGRESS" in os.environ


# --- what could lose it ---------------------------------------------------------------------------------------------

EARLIER = {"cnn.q1": "right", "cnn.q2": "tried", "of a newer edition": {"score": 7}}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_read_that_fails_once_wipes_nothing_and_is_told(progress, monkeypatch, capsys, number):
    progress.write_text(json.dumps(EARLIER))

    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", fails)
        QUESTIONS["loss.q1"].check(3.61)
    *told, _ = capsys.readouterr().out.splitlines()
    assert json.loads(progress.read_text()) == EARLIER
    assert f"Your progress file cannot be read or written ({os.strerror(number)}), so" in told[0]
    QUESTIONS["loss.q1"].check(3.61)
    assert "progress" not in capsys.readouterr().out
    assert json.loads(progress.read_text()) == {**EARLIER, "loss.q1": "right"}


def test_a_mark_that_an_editor_puts_first_is_no_damage(progress):
    progress.write_bytes(b"\xef\xbb\xbf" + json.dumps(EARLIER).encode())
    memory.remember("loss.q1", "tried")
    assert json.loads(progress.read_text()) == {**EARLIER, "loss.q1": "tried"}


KERNEL = """
    import sys

    sys.path.append("course_utils/exercises")  # the module alone, without its package: that imports torch
    from memory import remember

    print("ready", flush=True)
    input()
    for number in range(60):
        remember(f"{sys.argv[1]}.q{number}", "right")
"""


def test_two_kernels_with_one_progress_file_lose_nothing(progress):
    command = [sys.executable, "-c", textwrap.dedent(KERNEL)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    kernels = [subprocess.Popen([*command, name], cwd=ROOT, **pipes) for name in ("one", "two")]
    assert [kernel.stdout.readline() for kernel in kernels] == ["ready\n"] * 2
    for kernel in kernels:
        kernel.stdin.write("\n")
        kernel.stdin.flush()
    assert [kernel.communicate(timeout=60)[0] for kernel in kernels] == ["", ""]
    assert memory.states_in(progress) == {
        f"{name}.q{number}": "right" for name in ("one", "two") for number in range(60)
    }


def test_a_kernel_that_holds_the_file_too_long_is_told_of(progress, monkeypatch, capsys):
    progress.write_text(json.dumps(EARLIER))
    monkeypatch.setattr(memory, "PATIENCE", 0.2)
    code = "import sys, filelock; l = filelock.FileLock(sys.argv[1]); l.acquire(); print('held', flush=True); input()"
    command = [sys.executable, "-c", code, f"{progress}.lock"]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    QUESTIONS["loss.q1"].check(3.61)
    printed = capsys.readouterr().out
    assert "(another program holds it)" in printed and "RIGHT" in printed
    assert json.loads(progress.read_text()) == EARLIER
    other.kill()
    other.communicate()
    QUESTIONS["loss.q1"].check(3.61)  # a killed kernel holds nothing
    assert json.loads(progress.read_text()) == {**EARLIER, "loss.q1": "right"}


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_a_disk_without_locks_keeps_progress_all_the_same(progress, monkeypatch, capsys, error):
    def acquire(self, *_, **__):
        raise error

    monkeypatch.setattr(FileLock, "acquire", acquire)
    QUESTIONS["loss.q1"].check(3.61)
    assert "progress" not in capsys.readouterr().out
    assert memory.states_in(progress) == {"loss.q1": "right"}


def test_without_a_home_the_check_still_answers(monkeypatch, capsys):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("COURSE_PROGRESS")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(Path, "home", no_home)
    QUESTIONS["loss.q1"].check(3.61)
    printed = capsys.readouterr().out
    assert "RIGHT" in printed and "(Could not determine home directory.)" in printed
    assert main(["progress"]) == 0
    assert "shown as open. RuntimeError: Could not determine home directory." in capsys.readouterr().out
