"""Peak memory and CPU seconds of every notebook, each in a kernel of its own."""

import os
import tempfile
from pathlib import Path
from unittest import mock

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from benchmarks.measure import TELL, Row, told

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
GOAL = 1.2  # GB


def of_one_cell(code: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])


def measure(notebook: nbformat.NotebookNode) -> tuple[float, float]:
    """(CPU seconds of the kernel, its peak memory in GB), told by a cell at the end; nothing is saved.

    What a notebook starts beside its kernel, TensorBoard for instance, is not counted.
    """
    notebook.cells.append(nbformat.v4.new_code_cell(TELL))
    with tempfile.TemporaryDirectory() as folder:
        variables = {"COURSE_PROGRESS": str(Path(folder, "progress.json")), "COURSE_THREADS": "1"}
        with mock.patch.dict(os.environ, variables):
            options = dict(timeout=600, kernel_name="python3", extra_arguments=["--log-level=ERROR"])
            NotebookClient(notebook, **options).execute(cwd=str(NOTEBOOKS))
    return told("".join(output.get("text", "") for output in notebook.cells[-1].outputs))


def row(name: str, notebook: nbformat.NotebookNode) -> Row:
    what, goal = f"peak memory: {name}", f"at most {GOAL} GB"
    try:
        seconds, memory = measure(notebook)
    except CellExecutionError as error:
        return Row(what, f"not measured: the notebook stopped with {error.ename}", goal)
    how = f"{seconds:.0f} CPU seconds, imports included; one run"
    return Row(what, f"{memory:.2f} GB", goal, memory <= GOAL, how)


def rows(quick: bool) -> list[Row]:
    if quick:
        return [row("a notebook of one import", of_one_cell("import course_utils"))]
    return [row(path.stem, nbformat.read(path, as_version=4)) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
