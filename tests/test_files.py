"""Files are whole or not there; stored results come back as numbers."""

import os
import stat
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from course_utils import files
from course_utils.files import load_results, scores, write_atomically


def test_a_write_that_fails_half_way_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def full_disk(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    for name in ("file", "new"):
        with pytest.raises(OSError, match="No space left"):
            write_atomically(tmp_path / name, b"0123456789")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"old"


def test_an_interrupted_rename_keeps_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def interrupted(self, other):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_process_killed_before_the_rename_leaves_nothing_under_the_name(tmp_path):
    """As at a power cut: no clean-up runs."""
    program = (
        "import os, pathlib, sys; from course_utils.files import write_atomically;"
        "pathlib.Path.replace = lambda *_: os._exit(9);"
        "write_atomically(sys.argv[1], b'half')"
    )
    target = tmp_path / "deep" / "file"
    assert subprocess.run([sys.executable, "-c", program, str(target)]).returncode == 9
    assert not target.exists()
    (left,) = target.parent.iterdir()
    assert left.suffix == ".unfinished" and left.name.startswith("."), "no pattern such as *.json finds it"
    write_atomically(target, b"whole")
    assert left.exists() and target.read_bytes() == b"whole", "it might still be another writer's"
    os.utime(left, (0, 0))
    (tmp_path / "deep" / ".mine.unfinished").touch()
    os.utime(tmp_path / "deep" / ".mine.unfinished", (0, 0))
    write_atomically(target.with_name("other"), b"whole")
    assert sorted(path.name for path in target.parent.iterdir()) == [".mine.unfinished", "file", "other"]


WRITER = """
    import sys, threading
    from course_utils.files import write_atomically

    def write(letter):
        for number in range(40):
            write_atomically(sys.argv[1], letter * 50_000)

    threads = [threading.Thread(target=write, args=(letter.encode(),)) for letter in sys.argv[2]]
    threading.excepthook = lambda error: print(error.exc_type, error.exc_value)
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"""


def test_several_writers_of_one_file_neither_tear_it_nor_fail(tmp_path):
    """Two processes with two threads each, and a reader all the while."""
    target, seen = tmp_path / "file", set()
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(target)]
    writers = [subprocess.Popen([*command, letters], stdout=subprocess.PIPE) for letters in ("ab", "cd")]
    while any(writer.poll() is None for writer in writers):
        with suppress(FileNotFoundError):  # nobody has finished a first write yet
            seen.add(target.read_bytes())
    assert [writer.communicate()[0] for writer in writers] == [b"", b""]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen and all(len(content) == 50_000 and len(set(content)) == 1 for content in seen)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name == "nt", reason="permissions as Linux and macOS have them")
def test_the_permissions_are_those_of_any_file(tmp_path):
    for mask, mode in ((0o022, 0o644), (0o002, 0o664), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            write_atomically(tmp_path / f"{mask}", b"new")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / f"{mask}").stat().st_mode) == mode
    (tmp_path / "shared").touch()
    (tmp_path / "shared").chmod(0o660)
    write_atomically(tmp_path / "shared", b"new")
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o660, "as the one that was there"


def test_a_rename_that_is_refused_for_a_moment_is_tried_again(tmp_path, monkeypatch):
    """As on Windows, while another program reads the old file; one that is refused for good is an error."""
    refusals, rename = [PermissionError(13, "Access is denied")] * 3, Path.replace

    def replace(self, other):
        if refusals:
            raise refusals.pop()
        return rename(self, other)

    monkeypatch.setattr(Path, "replace", replace)
    write_atomically(tmp_path / "file", b"new")
    assert not refusals and (tmp_path / "file").read_bytes() == b"new"
    refusals += [PermissionError(13, "Access is denied")] * 10_000
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    with pytest.raises(PermissionError, match="Access is denied"):
        write_atomically(tmp_path / "file", b"newer")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"] and (tmp_path / "file").read_bytes() == b"new"


def test_results_come_back_as_numbers_and_group_by_line_and_x(tmp_path):
    (tmp_path / "grid.csv").write_text("recipe,n,seed,accuracy\na,1,0,0.5\na,1,1,0.7\nb,1,0,1\na,5,0,0.9\n")
    rows = load_results("grid", tmp_path)
    assert rows[0] == {"recipe": "a", "n": 1, "seed": 0, "accuracy": 0.5}
    assert scores(rows, "recipe", "n") == {"a": {1: [0.5, 0.7], 5: [0.9]}, "b": {1: [1]}}
    assert scores(rows, "recipe", "n", seed=1) == {"a": {1: [0.7]}}
    with pytest.raises(FileNotFoundError, match="course_utils grid other"):
        load_results("other", tmp_path)
