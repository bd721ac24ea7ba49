"""Ten students run notebook 03 at once: it ends right for each of them, and the memory of one is as it is written."""

from pathlib import Path

import nbformat
import psutil
import pytest

from classroom import kernels

ROOT = Path(__file__).resolve().parents[2]

CEILING = 1.4  # GB of its own for a kernel; docs/shared_server.md says what was measured


@pytest.mark.slow
def test_ten_students_at_once_end_right(tmp_path):
    found = kernels.measure("03_cnn_fine_tuning.ipynb", 10, tmp_path)
    print(kernels.HEADER, found.row, sep="\n")
    assert found.faults == {}
    assert len(found.private) == 10 and min(found.private) > 0.2 and max(found.private) < CEILING
    for number in range(1, 11):
        folder = tmp_path / f"student {number}"
        assert (folder / "notebooks" / "runs").is_dir(), "each has runs of their own"
        notebook = nbformat.read(folder / "notebooks" / "03_cnn_fine_tuning.ipynb", as_version=4)
        assert "NO ANSWER YET" in str(notebook.cells)


@pytest.fixture
def small(monkeypatch):
    """Students get one small notebook in the place of the course; returns what fills it."""

    def fill(*sources):
        def copy(folder):
            path = Path(folder) / "notebooks" / "small.ipynb"
            path.parent.mkdir(parents=True)
            cells = [nbformat.v4.new_code_cell(source) for source in sources]
            nbformat.write(nbformat.v4.new_notebook(cells=cells), path)

        monkeypatch.setattr(kernels, "copy_to", copy)

    return fill


def test_a_fault_of_one_is_told_and_stops_no_other(small, tmp_path):
    small("from pathlib import Path", "assert Path.cwd().parent.name != 'student 2', 'not here'")
    found = kernels.measure("small.ipynb", 2, tmp_path, every=0.2)
    assert found.faults == {2: "AssertionError: not here"}
    assert (found.notebook, len(found.private)) == ("small", 2)


def test_memory_is_that_of_the_kernels_and_each_has_a_progress_file_of_its_own(small, tmp_path):
    small(
        "import os, time\nfull = b'1' * 300_000_000\ntime.sleep(3)",
        "from pathlib import Path\nPath(os.environ['COURSE_PROGRESS']).write_text('{}')",
    )
    found = kernels.measure("small.ipynb", 2, tmp_path, every=0.2)
    assert found.faults == {}
    assert all(0.3 < private < 0.5 for private in found.private)
    assert sum(found.private) * 0.9 < found.together < sum(found.private) + 0.2
    assert all((tmp_path / f"student {number}" / "progress.json").exists() for number in (1, 2))


def test_stopped_in_between_it_leaves_no_kernel(small, tmp_path, monkeypatch):
    small("import time\ntime.sleep(600)")
    started = []

    def stop_when_it_runs(student):
        started[:] = student.process.children(recursive=True)
        if started:
            raise KeyboardInterrupt
        return kernels.Sample(0, 0, 0)

    monkeypatch.setattr(kernels.Student, "look", stop_when_it_runs)
    with pytest.raises(KeyboardInterrupt):
        kernels.measure("small.ipynb", 2, tmp_path, every=0.2)
    assert psutil.wait_procs(started, timeout=60)[1] == []


def test_a_class_of_nobody_and_a_notebook_that_is_not_there_are_refused(capsys):
    for arguments, words in ((["--students", "0"], "at least one student"), (["--notebook", "33"], "no notebook 33")):
        with pytest.raises(SystemExit) as stop:
            kernels.main(arguments)
        assert stop.value.code == 2 and words in capsys.readouterr().err
