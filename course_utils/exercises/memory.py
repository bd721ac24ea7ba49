"""Which questions a student has answered: a small JSON file, {"loss.q1": "right", "loss.q2": "tried"}."""

import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock, Timeout

from course_utils.files import write_atomically

PATIENCE = 5  # seconds for which a kernel waits while another one writes


def progress_file() -> Path:
    """COURSE_PROGRESS, or where this system keeps what programs remember. Raises RuntimeError without a home."""
    if chosen := os.environ.get("COURSE_PROGRESS"):
        return Path(chosen)
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return folder / "finetune-course" / "progress.json"


def states_in(file: Path) -> dict[str, str]:
    """{question: "right" or "tried"} of a progress file. Raises OSError, or ValueError where it is none."""
    return {name: state for name, state in _content(file).items() if state in ("right", "tried")}


def _content(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is no progress file: it should hold what `progress` names at its end.")
    return content


def remember(question: str, state: str) -> None:
    """Note "right" or "tried"; what was right once stays so. Two kernels that do so wait for each other.

    Raises nothing. Where the file cannot be read or written, it stays as it is, and a sentence is printed. A damaged
    file is kept under another name.
    """
    try:
        file = progress_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(FileLock(file.with_name(file.name + ".lock"), timeout=PATIENCE))
            except Timeout:
                raise
            except (OSError, NotImplementedError):  # a disk that knows no locks, or takes no new file
                pass
            known = _content_or_put_aside(file)
            if known.get(question) not in ("right", state):
                content = json.dumps({**known, question: state}, indent=1, sort_keys=True)
                write_atomically(file, content.encode("utf-8"))
    except (OSError, RuntimeError) as error:  # RuntimeError: no home
        why = getattr(error, "strerror", None) or ("another program holds it" if isinstance(error, Timeout) else error)
        print(f"Your progress file cannot be read or written ({why}), so this answer is checked, but not noted there.")


def _content_or_put_aside(file: Path) -> dict:
    """What the file holds. One that is damaged gets another name, so that nothing of it is lost."""
    try:
        return _content(file)
    except FileNotFoundError:
        return {}
    except ValueError:
        aside = file.with_name(f"{file.name}.damaged-{time.time_ns()}")
        file.rename(aside)
        print(f"Your progress file was damaged. It is kept as {aside.name} in the same folder, and a new one is begun.")
        return {}
