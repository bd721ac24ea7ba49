"""What runs elsewhere, on GitHub, in Codespaces, on Binder and before a commit, calls commands that exist here."""

import json
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

WORKFLOWS = ("test.yml", "weekly.yml")


@pytest.fixture
def read(root):
    return lambda *parts: root.joinpath(*parts).read_text(encoding="utf-8")


def jobs(read, name):
    return yaml.safe_load(read(".github", "workflows", name))["jobs"]


def targets(makefile: str) -> set[str]:
    return {name for names in re.findall(r"^([\w -]+):(?!=)", makefile, re.MULTILINE) for name in names.split()}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_each_command_is_one_that_exists(name, read):
    made = targets(read("Makefile"))
    started = set(re.findall(r"^    python start\.py ([\w-]+)", read("start.py"), re.MULTILINE))
    in_readme = read("README.md")
    runs = [step["run"] for job in jobs(read, name).values() for step in job["steps"] if "run" in step]
    assert runs
    for run in runs:
        words = run.split()
        if words[0] == "make":
            assert words[1] in made, run
        elif words[:2] == ["python", "start.py"]:
            assert words[2] in started, run
        elif words[1:4] == ["-m", "pip", "install"]:
            groups = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
            assert re.fullmatch(r"\.\[(\w+)\]", words[-1])[1] in groups, run
        else:
            assert run in in_readme, f"{run} is no command of the README"


def test_the_versions_are_those_of_pyproject(read):
    project = tomllib.loads(read("pyproject.toml"))["project"]
    allowed = SpecifierSet(project["requires-python"])
    test = jobs(read, "test.yml")
    first, last = test["pip"]["strategy"]["matrix"]["python"]
    assert allowed.contains(first) and allowed.contains(last)
    oldest = str(allowed).split(">=")[1]
    assert first == oldest, "the oldest Python that is allowed"
    assert str(allowed).startswith(f"<3.{int(last.split('.')[1]) + 1}"), "the newest Python that is allowed"
    setup = next(step for step in test["oldest"]["steps"] if "setup-python" in step.get("uses", ""))
    assert setup["with"]["python-version"] == oldest
    assert set(test["pip"]["strategy"]["matrix"]["os"]) == {"ubuntu-latest", "macos-latest", "windows-latest"}


def test_the_container_makes_the_environment_that_it_opens(read):
    lines = read(".devcontainer", "devcontainer.json").splitlines()
    container = json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))
    make, target = container["postCreateCommand"].split()
    assert make == "make" and target in targets(read("Makefile"))
    assert container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"].endswith(
        ".venv/bin/python"
    )


def test_binder_finds_environment_yml(root):
    """It reads environment.yml at the top, unless one of these takes its place."""
    assert (root / "environment.yml").exists()
    assert not [name for name in ("binder", ".binder", "Dockerfile", "requirements.txt") if (root / name).exists()]


def test_the_style_before_a_commit_is_that_of_make_lint(read):
    hooks = {repo["repo"].rsplit("/", 1)[1]: repo for repo in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]}
    pins = dict(line.split("==") for line in read("constraints.txt").splitlines() if "==" in line)
    assert hooks["ruff-pre-commit"]["rev"] == f"v{pins['ruff']}"
    tests = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]["test"]
    assert any(Requirement(need).name == "ruff" for need in tests)
    [strip] = hooks["nbstripout"]["hooks"]
    assert {"--keep-output", "--keep-count"} <= set(strip["args"]), "outputs are committed"


def test_the_citation_names_the_course(read):
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["title"] == read("README.md").splitlines()[0].removeprefix("# ")
    assert str(citation["version"]) == tomllib.loads(read("pyproject.toml"))["project"]["version"]
