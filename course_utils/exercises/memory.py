"""Which questions a student has answered: a small JSON file, {"loss.q1": "right", "loss.q2": "tried"}."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from course_utils.files import write_atomically


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
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is no progress file: it should hold what `progress` names at its end.")
    return {name: state for name, state in content.items() if state in ("right", "tried")}


def remembered() -> dict[str, str]:
    """The same of one's own file; empty where that is missing, broken, or not to be read."""
    with suppress(OSError, ValueError, RuntimeError):
        return states_in(progress_file())
    return {}


def remember(question: str, state: str) -> None:
    """Note "right" or "tried"; what was right once stays so. Where the file cannot be written, nothing happens."""
    known = remembered()
    if known.get(question) in ("right", state):
        return
    with suppress(OSError, RuntimeError):
        content = json.dumps({**known, question: state}, indent=1, sort_keys=True)
        write_atomically(progress_file(), content.encode("utf-8"))
