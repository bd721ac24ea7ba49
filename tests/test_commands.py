"""Every command that is named anywhere exists with just those words: in notebooks, pages, messages and comments.

Each is found by how it looks, and given to the parser that would read it. Nothing is run.
"""

import argparse
import ast
import contextlib
import functools
import importlib
import importlib.util
import io
import json
import re
import shlex
import subprocess
import tokenize
from pathlib import Path
from unittest import mock

import pytest

from course_utils.__main__ import COMMANDS, parse
from course_utils.full_size.catalogue import catalogue

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = r"(?:-m (?:course_utils|classroom\.\w+|benchmarks)|\bstart\.py|(?<![\w.-])make)(?= |$)"
WORD = r"(?:\"[^\"]*\"|[^\s\"`])+"


def tracked(*suffixes: str) -> list[Path]:
    """The files of the course; those who have no git read all that there are."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split("\n") if listed.returncode == 0 else [str(p.relative_to(ROOT)) for p in ROOT.rglob("*")]
    paths = [ROOT / name for name in names if name.endswith(suffixes) and not name.startswith(".venv")]
    return [path for path in paths if path.is_file()]


def in_markdown(text: str) -> list[str]:
    """What stands in code: each line of the blocks, and what is between backticks."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    plain = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()] + re.findall(r"`([^`\n]+)`", plain)


def in_python(text: str) -> list[str]:
    """What strings and comments name: between backticks, as a line of its own, or behind a colon or the word "with"."""
    parts = [
        token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT
    ]
    nodes = list(ast.walk(ast.parse(text)))
    pieces = {id(piece) for node in nodes if isinstance(node, ast.JoinedStr) for piece in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            parts.append("".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in pieces:
            parts.append(node.value)
    spans = [span for part in parts for span in re.findall(r"`([^`\n]+)`", part)]
    for part in parts:
        for line in re.sub(r"`[^`\n]*`", "", part).splitlines():
            begins = r"^ +(?=make )|(?:^|[ :])(?=(?:python3?|py)(?: -\S+)? (?:-m |start\.py))"
            spans += [line[begin.end() :] for begin in re.finditer(begins, line)]
    return spans


def in_notebook(text: str) -> list[str]:
    spans = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            spans += in_markdown(source)
        else:
            lines = source.splitlines()
            shell = [line.lstrip("!% ") for line in lines if line.lstrip().startswith(("!", "%"))]
            code = "\n".join(re.sub(r"^(\s*)[!%].*", r"\1pass", line) for line in lines)
            spans += shell + in_python(code)
    return spans


def in_settings(text: str) -> list[str]:
    """Workflows, the Makefile and their like: backticks in comments, and each line that begins with a command."""
    lines = [re.sub(r"^[\s-]*(?:run: |\"\w+\": \"|\t\$\(PYTHON\) )?", "", line) for line in text.splitlines()]
    return re.findall(r"`([^`\n]+)`", text) + [line for line in lines if re.match(f"(?:python3? )?{PROGRAMS}", line)]


READERS = {".md": in_markdown, ".py": in_python, ".ipynb": in_notebook, ".yml": in_settings, ".toml": in_settings}


def words_of(span: str) -> list[str]:
    """The words of the command that a span holds, from its program on; [] where it holds none of ours.

    A bare name of a command counts too, `prepare --only sst2`, but not code, `train = 3`, and not a name alone.
    """
    found = re.search(PROGRAMS, span)
    begin = found.start() if found else 0
    if not found and not re.match(rf"(?:{'|'.join(COMMANDS)})(?: [\w./:*-]+)+$", span):
        return []
    words = []
    for word in re.findall(WORD, span[begin:].split("  ")[0]):  # behind two spaces stands what it does
        if word[0] in "#&|;(>":
            break
        words.append(word.rstrip(".,;:)\"'?"))
        if word[-1] in ".,;:)?":  # the end of the command in a sentence
            break
    return [word for word in words if word]


class Parsed(Exception):
    """The words were understood."""


def understood(main, arguments: list[str]) -> None:
    """Call a program's `main` up to where its parser has read the arguments. SystemExit for words that it refuses."""
    real = argparse.ArgumentParser.parse_args

    def parse_args(self, *given):
        real(self, *given)
        raise Parsed

    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args), contextlib.suppress(Parsed):
        main(arguments)


def makefile() -> dict[str, list[str]]:
    """{target: its lines}, with the variables left in."""
    rules, names = {}, []
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines():
        if found := re.match(r"([\w -]+):(?!=)", line):
            names = found[1].split()
        elif line.startswith("\t"):
            for name in names:
                rules.setdefault(name, []).append(line.strip().lstrip("@").replace("$@", name))
    return rules


@functools.cache
def fault_of(*words: str) -> str:
    """Why a command would be refused, or ""."""
    program, *rest = words
    if program == "make":
        return fault_of_make(rest)
    if program == "start.py":
        spec = importlib.util.spec_from_file_location("start", ROOT / "start.py")
        start = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(start)
        if not rest or rest[0] in ("...", "help"):
            return ""
        if rest[0] not in start.COMMANDS:
            return f"start.py has no {rest[0]}"
        return fault_of(*rest[1:]) if rest[:2] == ["run", "-m"] and len(rest) > 2 else ""
    if program == "-m":
        program, *rest = rest
    if program not in COMMANDS and program.split(".")[0] not in ("course_utils", "classroom", "benchmarks"):
        return ""  # python -m of something else
    if program == "course_utils" or program in COMMANDS:
        return fault_of_course_utils(rest if program == "course_utils" else list(words))
    if importlib.util.find_spec(program) is None:
        return f"there is no module {program}"
    module = importlib.import_module("benchmarks.__main__" if program == "benchmarks" else program)
    try:
        understood(module.main, rest)
    except SystemExit:
        return "its parser refuses it"
    return ""


def fault_of_make(rest: list[str]) -> str:
    rules = makefile()
    settings = dict(word.split("=", 1) for word in rest if "=" in word)
    named = [word for word in rest if "=" not in word and not word.startswith("-")]
    for target in named:
        if target not in rules:
            return f"the Makefile has no {target}"
        for line in rules[target]:
            line = line.replace("$(ARGS)", settings.get("ARGS", "").strip("\"'")).replace("$(PYTHON) ", "")
            if fault := fault_of(*shlex.split(line)):
                return fault
    return ""


def fault_of_course_utils(arguments: list[str]) -> str:
    if not arguments or arguments[0] in ("...", "<command>") or arguments[0].isupper():  # a placeholder
        return ""
    if len(arguments) == 1 and arguments[0] in COMMANDS:  # named, not called: what it asks for may be missing
        return ""
    try:
        args = parse(arguments)
    except SystemExit as stopped:
        return "" if stopped.code == 0 else "its parser refuses it"
    names = getattr(args, "only", None) or []
    if args.command == "prepare" and (unknown := set(names) - {*catalogue(), "NAME", "X"}):
        return f"there is nothing called {unknown} to prepare"
    return ""


def named_in(path: Path) -> list[list[str]]:
    reader = READERS.get(path.suffix, in_settings)
    return [words for span in reader(path.read_text(encoding="utf-8")) if (words := words_of(span))]


@pytest.mark.parametrize(
    "path",
    [p for p in tracked(*READERS, "Makefile", ".json") if "tests" not in p.relative_to(ROOT).parts],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_command_that_is_named_exists_with_these_words(path, capsys):
    faults = {" ".join(words): fault_of(*words) for words in named_in(path)}
    capsys.readouterr()
    assert not {command: fault for command, fault in faults.items() if fault}


def test_commands_are_found_in_each_kind_of_file():
    """What is not found is not tested: this many there were when the test was written, or more."""
    least = {"README.md": 30, "README.zh-CN.md": 30, "CONTRIBUTING.md": 10, "docs/troubleshooting.md": 10}
    least |= {"notebooks/03c_your_own_pictures.ipynb": 10, "notebooks/06_text_fine_tuning.ipynb": 1}
    least |= {"course_utils/full_size/text.py": 3, "course_utils/full_size/movielens.py": 1}
    least |= {".github/workflows/test.yml": 4}
    found = {name: len(named_in(ROOT / name)) for name in least}
    assert {name: found[name] for name in least if found[name] < least[name]} == {}


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (in_markdown, "Fetch it by `prepare movielens`."),
        (in_markdown, "```bash\npython -m course_utils prepare sst2\n```"),
        (in_markdown, "`python3 start.py run -m course_utils train --dat FOLDER --out RUN`"),
        (in_markdown, "`make prepare ARGS=--fro`"),
        (in_markdown, "`PIP_NO_INDEX=1 make lob`"),
        (in_markdown, "`py start.py tset`"),
        (in_markdown, "`python -m classroom.slide`"),
        (in_markdown, "`python -m classroom.kernels --studnets 3`"),
        (in_python, 'raise ValueError("It is gone. Fetch it with: python -m course_utils prepare --only sst3")'),
        (in_python, 'print(f"{x}: `python -m course_utils prepare {name}` fetches it")'),
        (in_python, "# `make locks` writes it"),
        (in_settings, "      - run: make tests"),
    ],
)
def test_a_command_that_is_none_is_noticed(reader, text, capsys):
    [words] = [words for span in reader(text) if (words := words_of(span))]
    assert fault_of(*words)


@pytest.mark.parametrize(
    "text", ["`train = 3`", "`train`", "`make_loader(images)`", "make sure of it", "`predict(model)`"]
)
def test_code_and_prose_are_no_commands(text):
    assert not [words for span in in_markdown(text) if (words := words_of(span))]
