"""Files are whole or not there; stored results come back as numbers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    write_atomically(target, b"whole")  # and what it left is in nobody's way
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_results_come_back_as_numbers_and_group_by_line_and_x(tmp_path):
    (tmp_path / "grid.csv").write_text("recipe,n,seed,accuracy\na,1,0,0.5\na,1,1,0.7\nb,1,0,1\na,5,0,0.9\n")
    rows = load_results("grid", tmp_path)
    assert rows[0] == {"recipe": "a", "n": 1, "seed": 0, "accuracy": 0.5}
    assert scores(rows, "recipe", "n") == {"a": {1: [0.5, 0.7], 5: [0.9]}, "b": {1: [1]}}
    assert scores(rows, "recipe", "n", seed=1) == {"a": {1: [0.7]}}
    with pytest.raises(FileNotFoundError, match="course_utils grid other"):
        load_results("other", tmp_path)
