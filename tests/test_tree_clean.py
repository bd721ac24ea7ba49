"""The check in conftest.py that a test run leaves the repository's files alone."""

import shutil
import subprocess
import sys

import pytest

TESTS = {
    "leaves the tree alone": ("def test_it(tmp_path):\n    (tmp_path / 'file').touch()\n", 0),
    "writes a new file": ("def test_it(root):\n    (root / 'litter').touch()\n", 1),
    "changes a file": ("def test_it(root):\n    (root / 'README.md').write_text('other words')\n", 1),
    "writes what git ignores": ("def test_it(root):\n    (root / 'ignored').touch()\n", 0),
}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("name", TESTS)
def test_a_run_that_changes_files_fails(name, root, tmp_path):
    source, code = TESTS[name]
    (tmp_path / "tests").mkdir()
    shutil.copy(root / "tests" / "conftest.py", tmp_path / "tests")
    (tmp_path / "tests" / "test_it.py").write_text(source)
    (tmp_path / "README.md").write_text("words")
    (tmp_path / ".gitignore").write_text("ignored\n__pycache__\n.pytest_cache\n")
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), "-p", "no:nbval", "tests"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == code, run.stdout
    assert ("changed files of the repository" in run.stdout) == bool(code)
    assert "1 passed" in run.stdout
