"""The Chinese README is the English one: same commands, links, pictures, headings, tables and numbers.

What is compared does not depend on the language. So a change in one of them fails here until the other follows.
"""

import re
from collections import Counter

import pytest

LANGUAGES = {"en": "README.md", "zh": "README.zh-CN.md"}
CHINESE = r"[\u4e00-\u9fff]"


@pytest.fixture(scope="module")
def pages(request):
    """{language: text}, without the line that leads to the other language."""
    root, found = request.config.rootpath, {}
    for language, name in LANGUAGES.items():
        text = (root / name).read_text(encoding="utf-8")
        (other,) = set(LANGUAGES.values()) - {name}
        switch = [line for line in text.splitlines()[:5] if f"]({other})" in line]
        assert len(switch) == 1, f"{name} needs a line near its top that leads to {other}"
        found[language] = text.replace(switch[0], "")
    return found


@pytest.fixture(params=["headings", "blocks", "code", "links", "pictures", "tables", "numbers"])
def both(request, pages):
    read = globals()[request.param]
    return read(pages["en"]), read(pages["zh"])


def headings(text):
    return re.findall(r"^(#+) ", without_blocks(text), re.MULTILINE)


def blocks(text):
    """The fenced blocks, byte for byte, with the name of their language."""
    return re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)


def without_blocks(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def code(text):
    """What stands between backticks, paragraph by paragraph; the order in a sentence is the language's own."""
    return [sorted(set(re.findall(r"`([^`]+)`", part))) for part in re.split(r"\n\n|\n(?=[-|])", without_blocks(text))]


def links(text):
    return Counter(re.findall(r"\]\(([^)\s]+)\)", text))


def pictures(text):
    return re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", text)


def tables(text):
    """Each row: how many cells, the links in their order, and the numbers of each cell but the telling one."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [(len(row), re.findall(r"\]\(([^)]+)\)", row[0]), [digits(cell) for cell in row[2:]]) for row in rows]


def digits(text):
    return re.findall(r"\d+(?:\.\d+)?", text)


def numbers(text):
    """Section by section, every number that is written in digits."""
    plain = re.sub(r"\]\([^)]*\)|`[^`]*`", " ", without_blocks(text))
    return [Counter(digits(section)) for section in re.split(r"^#+ ", plain, flags=re.MULTILINE)]


def test_both_pages_have_the_same(both):
    english, chinese = both
    assert english, "nothing was found to compare"
    if isinstance(english, list):  # the first that differs, rather than both lists
        for one, other in zip(english, chinese, strict=False):
            assert one == other
        assert len(english) == len(chinese)
    assert english == chinese


def test_what_is_compared_is_there(pages):
    assert len(blocks(pages["en"])) >= 10
    assert sum(map(len, code(pages["en"]))) >= 60
    assert len(links(pages["en"])) >= 20 and pictures(pages["en"])
    assert sum(row[1] != [] and "notebooks/" in row[1][0] for row in tables(pages["en"])) >= 14


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("blocks", "make lab\nmake test", "make lab\nmake  test"),
        ("code", "`make lint`", "`make lintt`"),
        ("tables", "| 15 s", "| 16 s"),
        ("tables", "notebooks/04b_logging_traps.ipynb", "notebooks/04_tensorboardx_visualization.ipynb"),
        ("links", "(LICENSE)", "(LICENCE)"),
        ("numbers", "171 MB", "172 MB"),
        ("headings", "### In VS Code", "## In VS Code"),
        ("pictures", "![Validation", "[Validation"),
    ],
)
def test_a_change_in_one_page_is_noticed(pages, kind, before, after):
    read = globals()[kind]
    assert before in pages["en"]
    assert read(pages["en"].replace(before, after)) != read(pages["en"])


def test_it_is_written_in_chinese(pages):
    """Each paragraph and cell of a table is translated, and sets its commas, colons and brackets as Chinese does."""
    text = re.sub(r"`[^`]*`", "", without_blocks(pages["zh"]))
    for line in text.splitlines():
        assert not line.strip() or line.startswith("|---") or re.search(CHINESE, line), line
        assert not re.search(rf"{CHINESE}[,;:?!]|[,;:?!]{CHINESE}", line), line
    assert "您" not in text, "the page says 你"
    for alt in re.findall(r"!\[([^\]]+)\]", text):
        assert len(re.findall(CHINESE, alt)) > 10, alt
