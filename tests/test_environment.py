"""environment.yml, held to pyproject.toml by conda's own rules, without conda and without a network.

py-rattler, a reading of the same rules, parses each entry strictly and solves the file against a small channel that is
made here: the packages' names and versions, without what is in them.
"""

import asyncio
import importlib.metadata
import json
import tomllib
from pathlib import Path

import pytest
import rattler
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rattler.exceptions import InvalidMatchSpecError, SolverError

# What conda-forge calls differently from PyPI.
PYPI_NAME = {"pytorch": "torch", "matplotlib-base": "matplotlib"}

# Versions that conda-forge has; it has newer ones by now, so a floor above these is what the tests would find.
CHANNEL = {
    "python": ["3.11.14", "3.12.12", "3.13.9"],
    "pip": ["25.3"],
    "numpy": ["2.3.5"],
    "scikit-learn": ["1.8.0"],
    "matplotlib-base": ["3.11.0"],
    "pillow": ["11.3.0", "12.0.0"],
    "psutil": ["7.1.3"],
    "tqdm": ["4.70.0"],
    "jupyterlab": ["4.5.6"],
    "torchvision": ["0.28.0"],
    "pytorch": ["2.13.0"],
}


def record(name: str, version: str, depends: list[str]) -> dict:
    entry = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": depends}
    return entry | {"subdir": "linux-64", "size": 1, "md5": "0" * 32, "sha256": "0" * 64}


@pytest.fixture(scope="module")
def channel(tmp_path_factory) -> rattler.Channel:
    folder = tmp_path_factory.mktemp("channel")
    records = []
    for name, versions in CHANNEL.items():
        for version in versions:
            records.append(record(name, version, ["pytorch 2.13.*"] if name == "torchvision" else []))
    packages = {"{name}-{version}-{build}.conda".format_map(entry): entry for entry in records}
    for subdir in ("linux-64", "noarch"):
        (folder / subdir).mkdir()
        content = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}}
        if subdir == "linux-64":
            content["packages.conda"] = packages
        (folder / subdir / "repodata.json").write_text(json.dumps(content))
    return rattler.Channel(folder.as_uri())


def solve(entries: list[str], channel: rattler.Channel) -> dict:
    records = asyncio.run(
        rattler.solve(
            sources=[channel],
            specs=[rattler.MatchSpec(entry, strict=True) for entry in entries],
            platforms=["linux-64", "noarch"],
        )
    )
    return {found.name.normalized: found for found in records}


def requirements(pyproject: dict, *extras: str) -> dict[str, Requirement]:
    """What pyproject.toml asks for, by PyPI name."""
    project = pyproject["project"]
    needs = [Requirement(need) for need in project["dependencies"]]
    for extra in extras:
        needs += [Requirement(need) for need in project["optional-dependencies"][extra]]
    found = {canonicalize_name(need.name): need for need in needs}
    itself = found.pop(project["name"], None)  # "finetune-course[views]": another group, by its name
    return found | (requirements(pyproject, *itself.extras) if itself else {})


def check(environment: dict, pyproject: dict, channel: rattler.Channel) -> dict:
    """Raise where conda, or pip after conda, would not do what is meant; return what conda would install."""
    assert set(environment) == {"name", "channels", "dependencies"}, "a section that conda does not know"
    assert environment["name"] == pyproject["project"]["name"], "the name that the README gives"
    assert environment["channels"] == ["conda-forge"], "conda-forge alone"
    entries = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    sections = [entry for entry in environment["dependencies"] if not isinstance(entry, str)]
    assert sections == [{"pip": ["-e .[test]"]}], "pip takes the rest from pyproject.toml, and nothing else"

    installed = solve(entries, channel)
    # torch and what shares its numerical libraries must be there when pip comes, or pip brings a second copy.
    missing = {"python", "pip", "pytorch", "torchvision", "numpy", "scikit-learn"} - set(installed)
    assert not missing, f"pip would bring its own {missing}"

    wanted = requirements(pyproject, "test")
    for entry in entries:
        name, _, versions = entry.partition(">=")
        need = wanted.get(canonicalize_name(PYPI_NAME.get(name, name)))
        if entry in ("python=3.11", "pip"):
            continue
        assert need is not None, f"{name} is in environment.yml but not in pyproject.toml"
        # Whatever conda chooses from its floor upward satisfies pip, which then leaves it alone.
        assert SpecifierSet(f">={versions}") == need.specifier, f"{entry} here, {need} in pyproject.toml"
        assert need.specifier.contains(str(installed[name].version))
    return installed


@pytest.fixture
def pyproject(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture
def text(root: Path) -> str:
    return (root / "environment.yml").read_text(encoding="utf-8")


def test_conda_and_pip_agree(text, pyproject, channel):
    installed = check(yaml.safe_load(text), pyproject, channel)
    assert str(installed["python"].version).startswith("3.11.")


# What is changed in the file, into what, and what is then said about it.
BROKEN = {
    "a section misspelt": ("channels:", "chanels:", "a section that conda does not know"),
    "the old pytorch channel": ("- conda-forge", "- conda-forge\n  - pytorch", "conda-forge alone"),
    "nodefaults": ("- conda-forge", "- conda-forge\n  - nodefaults", "conda-forge alone"),
    "no valid condition": ("pytorch>=2.6", "pytorch>==2.6", "unable to parse version spec"),
    "a name with a blank": ("scikit-learn>=1.4", "scikit learn>=1.4", "is not valid"),
    "a name that conda-forge lacks": ("- tqdm", "- tqmd", "No candidates were found for tqmd"),
    "a version that conda-forge lacks": ("pytorch>=2.6", "pytorch>=3", "No candidates were found for pytorch >=3"),
    "no torchvision": ("  - torchvision>=0.21\n", "", "pip would bring its own {'torchvision'}"),
    "a floor under that of pip": ("torchvision>=0.21", "torchvision>=0.20", "torchvision>=0.21 in pyproject.toml"),
    "a floor over that of pip": ("numpy>=1.26", "numpy>=2.1", "numpy>=1.26 in pyproject.toml"),
    "a package that the course does not name": ("- tqdm>=4.66", "- pip>=20", "not in pyproject.toml"),
    "torch by pip": ("- -e .[test]", "- torch\n      - -e .[test]", "pip takes the rest from pyproject.toml"),
    "no tests": ("-e .[test]", "-e .", "pip takes the rest from pyproject.toml"),
    "another name": ("name: finetune-course", "name: torch-course", "the name that the README gives"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_found(case, text, pyproject, channel):
    right, wrong, said = BROKEN[case]
    assert right in text
    with pytest.raises((AssertionError, InvalidMatchSpecError, SolverError)) as error:
        check(yaml.safe_load(text.replace(right, wrong)), pyproject, channel)
    assert said in str(error.value)


def test_what_pip_adds_is_content_with_the_torch_that_is_there(text, pyproject):
    """What conda leaves to pip may ask for no torch newer than the floor, or pip would fetch its own over conda's."""
    by_conda = {entry.partition(">=")[0] for entry in yaml.safe_load(text)["dependencies"] if isinstance(entry, str)}
    by_conda = {canonicalize_name(PYPI_NAME.get(name, name)) for name in by_conda}
    wanted = requirements(pyproject, "test")
    floor = {name: str(wanted[name].specifier).removeprefix(">=") for name in ("torch", "torchvision")}
    to_see, seen, asked = set(wanted) - by_conda, set(), []
    while to_see:
        name = to_see.pop()
        seen.add(name)
        try:
            needs = [Requirement(need) for need in importlib.metadata.requires(name) or []]
        except importlib.metadata.PackageNotFoundError:  # for another system
            continue
        needs = [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        asked += [(name, need) for need in needs if need.name in floor]
        to_see |= {canonicalize_name(need.name) for need in needs} - seen - by_conda
    assert "tensorboardx" in seen, "pip adds tensorboardX"
    assert {name for name, _ in asked} >= {"peft"}, "which asks for torch"
    assert not [(name, str(need)) for name, need in asked if not need.specifier.contains(floor[need.name])]


def test_constraints_pin_versions_that_pyproject_allows(root, pyproject):
    lines = (root / "constraints.txt").read_text(encoding="ascii").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(str(pin.specifier).startswith("==") and not pin.url for pin in pins)
    assert not [pin for pin in pins if "+" in str(pin.specifier)], "a local build is found on one machine alone"
    for python in ("3.11", "3.14", "3.15"):  # a newer Python may need a newer version
        here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": python})]
        version = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in here}
        for name, need in requirements(pyproject, "test").items():
            assert name in version, f"{name} is not in constraints.txt: run start.py lock"
            assert need.specifier.contains(version[name]), f"{name}=={version[name]}: run start.py lock"
