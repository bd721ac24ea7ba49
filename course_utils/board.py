"""Start TensorBoard on a folder of runs, ask it what it shows, and stop it. The standard library is all it imports."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Board:
    """A TensorBoard that is running: `url` is its address, for a browser."""

    url: str
    patience: float = 180  # seconds

    def get(self, path: str, **query: str):
        """What it answers to a path of its own, "data/plugin/scalars/tags": parsed JSON, or bytes where it is none.

        Raises urllib.error.HTTPError, an OSError, where it knows no such path, run or tag, or has not read it yet.
        """
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy of the system
        address = urllib.parse.urljoin(self.url, path) + ("?" + urllib.parse.urlencode(query) if query else "")
        with direct.open(address, timeout=30) as answer:
            content = answer.read()
            return json.loads(content) if "json" in answer.headers.get_content_type() else content

    def get_when_read(self, path: str, **query: str):
        """As `get`, but asks until the answer is not empty and comes twice: then TensorBoard has read the run.

        Raises TimeoutError where that does not happen.
        """
        started, before = time.monotonic(), None
        while time.monotonic() - started < self.patience:
            now = None
            with contextlib.suppress(OSError):  # it has not read this run yet
                now = self.get(path, **query)
            if now and now == before:
                return now
            before = now
            time.sleep(0.25)
        raise TimeoutError(f"TensorBoard has shown nothing under {path} {query or ''} for {self.patience:g} s.")


@contextlib.contextmanager
def serve(logdir: Path | str, options: Sequence[str] = (), patience: float = 180) -> Iterator[Board]:
    """Run TensorBoard on `logdir` while the block lasts: `with serve("runs") as board: print(board.url)`.

    It takes a free port and is reached from this machine alone. options: more of its own, ("--load_fast=false",).
    patience: seconds to wait for it; from a slow disk the first start can take a minute.
    Raises FileNotFoundError where there is no such directory, RuntimeError, with TensorBoard's own last words, where
    it does not start.
    """
    if not Path(logdir).is_dir():
        raise FileNotFoundError(f"There is no directory {Path(logdir).name} to show: log a run there first.")
    # -P: else a file beside the notebook, called random.py for instance, would hide the module that TensorBoard needs
    command = [sys.executable, "-P", "-m", "tensorboard.main", "--logdir", str(logdir)]
    command += ["--host", "127.0.0.1", "--port", "0"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # It leaves a note about itself in the folder for temporary files, and heeds those of others: here it is alone.
        variables = {**os.environ, "TMPDIR": folder, "TEMP": folder, "TMP": folder, "PYTHONIOENCODING": "utf-8"}
        log = Path(folder) / "messages.txt"
        with log.open("wb") as file:
            server = subprocess.Popen(
                [*command, *options], stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=variables
            )
        try:
            yield Board(_address(server, log, patience), patience)
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()
            server.wait()


def _address(server: subprocess.Popen, log: Path, patience: float) -> str:
    """The address that TensorBoard prints, as soon as it answers there."""
    started = time.monotonic()
    while True:
        ended = server.poll() is not None
        messages = log.read_text(encoding="utf-8", errors="replace")
        if ended or time.monotonic() - started > patience:
            last = next((line.strip() for line in reversed(messages.splitlines()) if line.strip()), "nothing")
            what = "ended at once" if ended else f"has not answered within {patience:g} s"
            raise RuntimeError(f"TensorBoard {what}. It says: {last}")
        if printed := re.search(r" at (http://\S+)", messages):
            with contextlib.suppress(OSError):  # it is not listening yet
                Board(printed[1]).get("data/environment")
                return printed[1]
        time.sleep(0.1)
