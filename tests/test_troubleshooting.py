"""docs/troubleshooting.md has an entry for each message of the doctor and of start.py, and quotes none that is gone.

The messages are read from the source: a new check, or new words, fail here until the page follows. What differs from
machine to machine is "…" in the messages as on the page.
"""

import ast
import inspect
import re
import textwrap

import pytest

import course_utils
from course_utils import board, device, pocket
from course_utils.commands import doctor, prepare
from course_utils.doctor import machine, probes
from course_utils.full_size import downloads

INSTALLATION, DOCTOR, REST, TRIED = (
    "What the installation says",
    "What the doctor says",
    "What the doctor cannot see",
    "What was tried",
)
# What a check reports in the words of a function that it calls.
CALLED = {
    "device": [device.check_device],
    "threads": [device.use_cpu_threads],
    "imports": [machine.output_of, probes._answers, doctor.files_in_the_way],
    "kernel": [doctor.files_in_the_way],
    "tensorboard": [board.Board.get_when_read, board._address],
    "weights": [pocket.load_pocket_checkpoint],
}


# --- messages, from the source --------------------------------------------------------------------------------------


def words(node) -> str:
    """A text in the source as its reader meets it, on one line; "" for what is no text."""
    if isinstance(node, ast.JoinedStr):
        text = "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = re.sub(r"\{[\w:.]*\}", "…", node.value)
    else:
        return ""
    return " ".join(text.split())


def texts(tree, at_least=3) -> list[str]:
    """Every text below a node that has some words of its own; docstrings are none."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = [words(node) for node in ast.walk(tree) if id(node) not in documentation | inner]
    return [text for text in found if len(re.findall(r"[A-Za-z]{2,}", text)) >= at_least]


def parsed(thing) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(thing)))


def findings(tree) -> list[str]:
    """The sentences that a check returns with FAIL or NOTE, and those of the errors that are raised."""
    pairs = [node.elts for node in ast.walk(tree) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
    said = [words(text) for status, text in pairs if words(status) in ("FAIL", "NOTE")]
    raised = [text for node in ast.walk(tree) if isinstance(node, ast.Raise) for text in texts(node)]
    return [text for text in said + raised if re.search(r"[a-z]{2}", text)]


def messages_of(check: str) -> list[str]:
    known = list(machine.KNOWN_ERRORS.values()) if check == "imports" else []
    bodies = [step for function in CALLED.get(check, []) for step in parsed(function).body[0].body]
    called = [text for step in bodies for text in texts(step, at_least=2) if re.search(r"\w \w", text)]
    called = [text for text in called if text != "other layers"]  # it is caught, and explained
    return findings(parsed(doctor.CHECKS[check])) + called + known


def start_messages(root) -> list[str]:
    """What start.py ends with, and why it makes an environment anew."""
    tree = ast.parse((root / "start.py").read_text(encoding="utf-8"))
    constants = [text for node in tree.body if isinstance(node, ast.Assign) for text in texts(node.value, 5)]
    stops = [
        text
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "stop"
        for text in texts(node)
    ]
    (why,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "why_anew"]
    return constants + stops + texts(why)


# --- entries, from the page -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chapters(request):
    """{heading of a chapter: its text}."""
    page = (request.config.rootpath / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)\n", page, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def sections(chapter: str) -> dict[str, str]:
    parts = re.split(r"^### (.+)\n", chapter, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def quotes(text: str) -> list[str]:
    """The messages that a text quotes: in a heading, or in bold."""
    return [" ".join(quote.split()) for quote in re.findall(r'(?:^#+ |\*\*)"([^"]+)"', text, re.MULTILINE)]


def is_in(quote: str, message: str) -> bool:
    return bool(re.search(".*".join(map(re.escape, quote.split("…"))), message))


def unanswered(messages, quoted) -> list[str]:
    return [message for message in messages if not any(is_in(quote, message) for quote in quoted)]


@pytest.mark.parametrize("check", doctor.CHECKS)
def test_each_message_of_a_check_has_its_entry_there(check, chapters):
    section = sections(chapters[DOCTOR])[check]
    assert not unanswered(messages_of(check), quotes(section))


def test_the_checks_stand_in_the_order_of_the_report(chapters):
    assert [name for name in sections(chapters[DOCTOR]) if not name.startswith('"')] == list(doctor.CHECKS)
    elsewhere = [name for title, chapter in chapters.items() if title != DOCTOR for name in sections(chapter)]
    assert not set(elsewhere) & set(doctor.CHECKS), "the doctor names each entry by its heading"


def test_what_the_doctor_says_beside_its_checks_has_an_entry(chapters):
    messages = findings(parsed(doctor.run))
    assert len(messages) >= 4
    assert not unanswered(messages, quotes(chapters[DOCTOR]))


def test_each_message_of_the_installation_has_its_entry(root, chapters):
    messages = start_messages(root)
    assert len(messages) >= 12
    assert not unanswered(messages, quotes(chapters[INSTALLATION]))


def test_each_quotation_is_still_said(root, chapters):
    sources = [inspect.getsource(module) for module in (board, device, doctor, downloads, machine, pocket, prepare)]
    sources += [inspect.getsource(probes), (root / "start.py").read_text(encoding="utf-8")]
    said = [text for source in sources for text in texts(ast.parse(source), at_least=1)]
    quoted = [quote for chapter in (INSTALLATION, DOCTOR, REST) for quote in quotes(chapters[chapter])]
    assert len(quoted) >= 50
    assert not [quote for quote in quoted if not any(is_in(quote, text) for text in said)]


def test_a_new_message_and_one_that_is_gone_would_be_noticed(chapters):
    source = "def check(args):\n    return 'FAIL', f'The {args} is on fire. Fetch water.'\n"
    assert unanswered(findings(ast.parse(source)), quotes(chapters[DOCTOR])) == ["The … is on fire. Fetch water."]
    assert is_in("is on fire", "The … is on fire. Fetch water.") and not is_in("on water", "The … is on fire.")


def test_the_package_is_the_one_beside_this_file(root):
    """The messages are those of this repository, not of another copy that is installed."""
    assert root in [*map(type(root), course_utils.__path__)][0].resolve().parents
