"""The pages for those who change the course, teach it or are stuck: what they tell to type, open and set exists."""

import re

import pytest
from test_automation import targets

from course_utils.__main__ import COMMANDS

PAGES = ("CONTRIBUTING.md", "docs/teaching.md", "docs/troubleshooting.md")
# What git ignores, and so is not there before a lesson has run.
MADE_LATER = "notebooks/runs"


@pytest.fixture
def read(root):
    return lambda *parts: root.joinpath(*parts).read_text(encoding="utf-8")


@pytest.fixture(params=PAGES)
def page(request, read):
    return read(request.param)


def commands(page: str) -> list[str]:
    """What stands between backticks, and each line of the blocks."""
    blocks = re.findall(r"^```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    plain = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", plain)


def wrong_commands(page, read, root) -> list[str]:
    made, start = targets(read("Makefile")), read("start.py")
    started = set(re.findall(r"^    python start\.py ([\w-]+)", start, re.MULTILINE))
    modules = [*root.glob("course_utils/commands/*.py"), *root.glob("classroom/*.py")]
    options = start + "".join(path.read_text(encoding="utf-8") for path in modules)
    options += "--no-capture-output --rebase"  # conda's and git's
    names_in_classroom = [path.stem for path in root.glob("classroom/*.py")]
    wrong = []
    for command in commands(page):
        ours = re.match(r"(?:[A-Z_]+=\S+ )*make ([\w-]+)", command)
        begun = re.search(r"start\.py ([\w-]+)", command)
        asked = re.search(r"-m (?:course_utils |(classroom)\.)(\w+)", command)
        known = (
            (not ours or ours[1] in made)
            and (not begun or begun[1] in started)
            and (not asked or asked[2] in (names_in_classroom if asked[1] else COMMANDS))
            and (
                not (ours or begun or asked)
                or all(re.search(rf"{name}\b", options) for name in re.findall(r"--[a-z-]+", command))
            )
        )
        wrong += [] if known else [command]
    return wrong


def missing_files(page, root) -> list[str]:
    code = re.findall(r"(?<![\w./])((?:notebooks|course_utils|tests|results|docs)/[\w./*-]*\w)", page)
    code += re.findall(r"`([.\w-]+\.(?:md|toml|yaml|yml|txt))`", page)
    return [name for name in code if not name.startswith(MADE_LATER) and not list(root.glob(name))]


def test_commands_exist(page, read, root):
    assert len([command for command in commands(page) if command.startswith(("make ", "py ", "python3 "))]) >= 10
    assert not wrong_commands(page, read, root)


def test_files_exist(page, root):
    assert not missing_files(page, root)


def test_variables_are_read_somewhere(page, root):
    paths = [root / "start.py", root / "tests" / "conftest.py", *root.glob("course_utils/**/*.py")]
    sources = "".join(path.read_text(encoding="utf-8") for path in paths)
    assert not [name for name in set(re.findall(r"\bCOURSE_\w+", page)) if name not in sources]


@pytest.mark.parametrize(
    "slip",
    [
        "`make tests`",
        "`PIP_NO_INDEX=1 make lob`",
        "`py start.py tset`",
        "`make prepare ARGS=--fro`",
        "`python -m course_utils docter`",
        "`python -m classroom.slide`",
    ],
)
def test_a_command_that_is_none_would_be_noticed(slip, read, root):
    assert wrong_commands(slip, read, root) == [slip.strip("`")]
    assert missing_files("see `tests/test_nothing.py` and `contributing.md`", root)


def test_the_rules_for_notebooks_are_those_that_are_tested(read, root):
    page, tests = read("CONTRIBUTING.md"), read("tests", "test_notebooks.py")
    assert "35 lines" in page and "<= 35" in tests
    assert "less than 1 MB" in page and "< 1_000_000" in tests
    for promise in re.findall(r"\*\*(You will|Time and cost|Before|In the article)\*\*", page):
        assert promise in tests
    tags = set(re.findall(r"`(nbval-[\w-]+|raises-exception)`", page))
    assert tags == {"nbval-ignore-output", "raises-exception"}
    exercises = read("tests", "test_exercises.py")
    assert all(re.search(rf"^{name} = \[", exercises, re.MULTILINE) for name in ("KNOWN", "UNKNOWN"))
    assert len(page.splitlines()) <= 110, "one page"
