"""Real text that is on every machine of the course: the documentation strings of Python's standard library."""

import ast
import re
import sysconfig
from pathlib import Path
from typing import NamedTuple

import torch

from course_utils.data import Split, few_labels, split_by_group

# What a docstring is about, by the module that it stands in. Modules of no subject (tkinter, logging, ...) have no
# label: they are text to pretrain on. Some of these names exist in some versions of Python alone.
TRAIN = {
    "network": "asynchat asyncore cgi email http mailbox mimetypes nntplib smtpd telnetlib urllib wsgiref xmlrpc",
    "files": "compression dbm fnmatch genericpath io netrc ntpath os posixpath stat tarfile zipapp zipfile zipimport",
    "concurrency": "asyncio contextvars signal",
    "numbers, time": "bisect decimal secrets statistics strptime zoneinfo",
    "formats": "codecs gettext markupbase quopri re reprlib shlex stringprep tomllib xml",
    "Python itself": "ast code codeop compileall importlib linecache modulefinder opcode pickletools pkgutil profile "
    "py_compile pyclbr pydoc runpy tabnanny timeit token tokenize tracemalloc types typing unittest",
}
VAL = {
    "network": "ftplib smtplib socketserver",
    "files": "filecmp glob gzip shelve tempfile",
    "concurrency": "sched selectors threading",
    "numbers, time": "calendar fractions heapq numbers",
    "formats": "base64 configparser plistlib pprint textwrap",
    "Python itself": "bdb dis pdb symtable",
}
TEST = {
    "network": "imaplib ipaddress poplib socket ssl webbrowser",
    "files": "bz2 fileinput lzma pathlib shutil",
    "concurrency": "concurrent multiprocessing queue subprocess",
    "numbers, time": "colorsys datetime random uuid",
    "formats": "csv difflib html json locale string",
    "Python itself": "doctest inspect pstats trace traceback",
}
SUBJECTS = tuple(TRAIN)
FEWEST_WORDS = 8  # a shorter docstring ("Return the value.") is about nothing
SKIPPED = {"encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tests", "turtledemo"}
SKIPPED |= {"site-packages", "dist-packages"}  # not the standard library, but below it in some installations


class Docstring(NamedTuple):
    text: str  # in one line, without examples and without the names of its own module
    module: str  # the top-level name that is imported: "xml", "decimal"


class LabelledTexts(NamedTuple):
    """A data set in memory; `split` keeps every module on one side."""

    texts: list[str]  # N of them
    labels: torch.Tensor  # (N,), int64, 0 to K - 1
    modules: list[str]  # N of them: what must stay together in a split
    class_names: tuple[str, ...]  # K of them
    split: Split  # validation and test hold the same number of texts of each class
    unlabelled: list[str]  # all texts of modules that are in neither validation nor test: to pretrain on


def read_docstrings(root: Path | str | None = None, fewest_words: int = FEWEST_WORDS) -> list[Docstring]:
    """Every docstring of the library's modules, classes and functions, read from the source files; none is imported.

    root: another folder with sources than the standard library of this Python. Equal texts are kept once, at the first
    place. Tests and tables are left out. Takes 3 to 4 seconds of a processor's time.
    Raises FileNotFoundError where no docstring is found: some small installations of Python come without sources.
    """
    root = Path(root or sysconfig.get_path("stdlib"))
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if SKIPPED & set(parts) or parts[0].startswith(("_sysconfigdata", "config-")):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # a template, or a file for another version
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = tidy(ast.get_docstring(node) or "", parts)
                if len(text.split()) >= fewest_words:
                    found.setdefault(text, Docstring(text, top_level(parts[0])))
    if not found:
        raise FileNotFoundError(
            f"There are no sources with docstrings in {root.name}. The course's corpus needs a Python that comes with "
            "its standard library as .py files, as those of conda, python.org and the usual Linux packages do."
        )
    return list(found.values())


def top_level(name: str) -> str:
    """The name under which a module is imported: _pydecimal.py is the source of decimal, _strptime.py of strptime."""
    return re.sub(r"^_(py(?=datetime|decimal|io))?", "", name)


def tidy(docstring: str, module: tuple[str, ...] = ()) -> str:
    """A docstring in one line, without interactive examples, and without the names that give its module away.

    module: the parts of the module's name, ("xml", "dom", "minidom"); they are taken out as whole words, in any case.
    """
    lines = [line for line in docstring.splitlines() if not line.lstrip().startswith((">>>", "..."))]
    names = {part.lstrip("_") for part in module} | {top_level(part) for part in module} | set(module)
    names = sorted((re.escape(name) for name in names if len(name) > 1), key=len, reverse=True)
    text = " ".join(lines)
    if names:
        text = re.sub(rf"\b(?:{'|'.join(names)})\b", " ", text, flags=re.IGNORECASE)
    return " ".join(text.split())


def load_subjects(root: Path | str | None = None) -> LabelledTexts:
    """The docstrings of the standard library that have a subject, split by module, and those to pretrain on.

    The numbers depend on the version of Python: some 3,100 labelled texts and 4,300 to pretrain on. Same version, same
    data. Source of the text: CPython, under the licence of the Python Software Foundation.
    """
    docstrings = read_docstrings(root)
    parts = [
        {name: k for k, names in enumerate(part.values()) for name in names.split()} for part in (TRAIN, VAL, TEST)
    ]
    subject = parts[0] | parts[1] | parts[2]
    labelled = [docstring for docstring in docstrings if docstring.module in subject]
    labels = torch.tensor([subject[docstring.module] for docstring in labelled])
    modules = sorted(subject)
    groups = torch.tensor([modules.index(docstring.module) for docstring in labelled])
    present = set(groups.tolist())
    val, test = ([number for name in part if (number := modules.index(name)) in present] for part in parts[1:])
    split = split_by_group(groups, val=val, test=test)
    return LabelledTexts(
        texts=[docstring.text for docstring in labelled],
        labels=labels,
        modules=[docstring.module for docstring in labelled],
        class_names=SUBJECTS,
        split=Split(split.train, *(_balanced(labels, part) for part in split[1:])),
        unlabelled=[docstring.text for docstring in docstrings if docstring.module not in parts[1] | parts[2]],
    )


def _balanced(labels: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    """As many examples of each class as the rarest has: accuracy by chance is then 1/K."""
    return few_labels(labels, among, per_class=int(labels[among].bincount().min()), seed=0)
