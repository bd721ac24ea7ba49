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
        elif words[1] == "start.py":
            assert words[2] in started, run
        elif words[0] == "sudo":
            continue  # the machine's own, before the course is called
        elif words[1:4] == ["-m", "pip", "install"]:
            groups = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
            assert re.fullmatch(r"\.\[(\w+)\]", words[-1])[1] in groups, run
        else:
            assert run in in_readme, f"{run} is no command of the README"


def test_the_versions_are_those_of_pyproject(read):
    project = tomllib.loads(read("pyproject.toml"))["project"]
    allowed = SpecifierSet(project["requires-python"])
    test = jobs(read, "test.yml")
    pythons = test["pip"]["strategy"]["matrix"]["python"]
    oldest, above = re.fullmatch(r"<3\.(\d+),>=3\.(\d+)", str(allowed)).groups()[::-1]
    assert pythons[0] == f"3.{oldest}", "the oldest Python that is allowed"
    assert pythons[-1] == f"3.{int(above) - 1}", "the newest Python that is allowed"
    oldest = pythons[0]
    setup = next(step for step in test["oldest"]["steps"] if "setup-python" in step.get("uses", ""))
    assert setup["with"]["python-version"] == oldest
    assert set(test["pip"]["strategy"]["matrix"]["os"]) == {"ubuntu-latest", "macos-latest", "windows-latest"}
    weekly = jobs(read, "weekly.yml")
    setup = next(step for step in weekly["newest"]["steps"] if "setup-python" in step.get("uses", ""))
    assert setup["with"]["python-version"] == pythons[-1], "the newest versions run on the newest Python too"


def test_no_action_runs_on_a_node_that_github_has_removed(read):
    """The first versions on Node 24; Node 20 was removed in September 2026."""
    least = {"actions/checkout": 5, "actions/setup-python": 6, "conda-incubator/setup-miniconda": 4}
    used = [
        step["uses"].split("@v")
        for name in WORKFLOWS
        for job in jobs(read, name).values()
        for step in job["steps"]
        if "uses" in step
    ]
    assert {name for name, _ in used} >= set(least)
    assert not [(name, version) for name, version in used if int(version) < least.get(name, 0)]


def test_dependabot_looks_after_the_actions(read):
    settings = yaml.safe_load(read(".github", "dependabot.yml"))
    assert settings["version"] == 2
    assert [update["package-ecosystem"] for update in settings["updates"]] == ["github-actions"]


def test_a_job_starts_the_course_without_make(read):
    """Debian and Ubuntu have no make by default, and Windows none at all."""
    steps = jobs(read, "test.yml")["plain"]["steps"]
    runs = [step["run"] for step in steps if "run" in step]
    assert runs and not [run for run in runs if run.split()[0] == "make"]
    assert any(run.startswith("python3 start.py") for run in runs)


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
    pins = dict(re.findall(r"^([\w.-]+)==([\w.]+)", read("constraints.txt"), re.MULTILINE))
    assert hooks["ruff-pre-commit"]["rev"] == f"v{pins['ruff']}"
    tests = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]["test"]
    assert any(Requirement(need).name == "ruff" for need in tests)
    [strip] = hooks["nbstripout"]["hooks"]
    assert {"--keep-output", "--keep-count"} <= set(strip["args"]), "outputs are committed"


def test_the_citation_names_the_course(read):
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["title"] == read("README.md").splitlines()[0].removeprefix("# ")
    assert str(citation["version"]) == tomllib.loads(read("pyproject.toml"))["project"]["version"]
