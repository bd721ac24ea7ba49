"""The page about a server for a class: its configuration does what the page says, as far as that goes without a hub."""

import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard import notebook as tensorboard_in_notebooks

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "shared_server.md").read_text(encoding="utf-8")


@pytest.fixture
def configured():
    """The names that the page's configuration defines, `c` among them, for this copy of the course."""
    pytest.importorskip("pwd", reason="accounts as Linux and macOS have them")
    (block,) = re.findall(r"^```python\n(.+?)^```", PAGE, re.DOTALL | re.MULTILINE)
    sections = ("JupyterHub", "PAMAuthenticator", "Spawner")
    names = {"c": SimpleNamespace(**{section: SimpleNamespace() for section in sections})}
    exec(compile(block.replace("/srv/finetune-course", ROOT.as_posix()), "jupyterhub_config.py", "exec"), names)
    return names


def test_the_hook_copies_the_course_as_the_student(configured, tmp_path, monkeypatch):
    student = SimpleNamespace(pw_dir=str(tmp_path), pw_uid=4711, pw_gid=4712)
    monkeypatch.setattr("pwd.getpwnam", {"ada": student}.__getitem__)
    identities, run = [], subprocess.run

    def run_as_myself(command, *, user, group, extra_groups, **options):
        identities.append((user, group, extra_groups))  # only root may become somebody else
        return run(command, **options)

    monkeypatch.setattr("subprocess.run", run_as_myself)
    copy = configured["c"].Spawner.pre_spawn_hook
    copy(SimpleNamespace(user=SimpleNamespace(name="ada")))
    first = tmp_path / "finetune-course" / configured["c"].Spawner.default_url.removeprefix("/lab/tree/")
    assert first.read_bytes() == (ROOT / "notebooks" / "00_start_here.ipynb").read_bytes()
    first.write_text("mine")
    copy(SimpleNamespace(user=SimpleNamespace(name="ada")))
    assert first.read_text() == "mine", "what lies there already stays"
    assert identities == [(4711, 4712, [])] * 2


def test_tensorboard_in_a_notebook_goes_through_the_hub(configured, monkeypatch):
    address = configured["c"].Spawner.environment["TENSORBOARD_PROXY_URL"]
    spawner = SimpleNamespace(server=SimpleNamespace(base_url="/user/ada/"))
    monkeypatch.setenv("TENSORBOARD_PROXY_URL", address(spawner))
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    tensorboard_in_notebooks._display_ipython(port=6011, height=800, display_handle=None)
    assert '"/user/ada/proxy/6011/"' in shown[0].data, "with the last slash, or the page is blank"


def test_the_environment_of_the_course_is_first_on_the_path(configured):
    assert configured["c"].Spawner.environment["PATH"].split(os.pathsep)[0] == f"{ROOT.as_posix()}/.venv/bin"
