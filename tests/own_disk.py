"""A disk of one's own for a test, small or read-only, where the system lets a process mount one."""

import shutil
import subprocess

import pytest


def mounting(options: str, then: str = "") -> list[str]:
    """A prefix that runs a command where `folder` is a file system of its own, seen by that command alone."""
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        if shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True).returncode == 0:
            script = f'mount -t tmpfs -o {options} tmpfs "$0" && {then or "true"} && exec "$@"'
            return [*unshare, "sh", "-c", script]
    pytest.skip("this system lets a test mount nothing (unshare is missing or refused)")
