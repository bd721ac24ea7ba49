"""docs/glossary.md against the notebooks: the entries, the links to them, the symbols and the Chinese index."""

import re
import unicodedata
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))  # in the order of the course
NAMES = [path.name for path in NOTEBOOKS]
MOST_LINKS = 30  # in one notebook, so that its text stays readable

ENTRIES_TEXT, INDEX_TEXT = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("\n## Chinese index\n")
INDEX = re.findall(r"^\| (.+?) \| (.+?) \| \[(.+?)\]\(#(.+?)\) \|$", INDEX_TEXT, re.M)

END_OF_LESSON = re.compile(r"^## (?:Exercises|Try it|What you can do now)$", re.M)
LINK = re.compile(r"\[([^\]]+)\]\(\.\./docs/glossary\.md#([^)]+)\)")
NOT_PROSE = re.compile(
    r"^```.*?^```$"  # blocks of code and diagrams
    r"|^#+ .*?$"  # headings
    r"|!?\[[^\]]*\]\([^)]*\)"  # links and pictures
    r"|`[^`\n]+(?:\n[^`\n]+)?`"  # code
    r"|\$\$.*?\$\$|\$[^$\n]*(?:\n[^$\n]+)?\$"  # formulas
    r"|<summary>.*?</summary>|<[^>\n]*>",
    re.M | re.S,
)


def on_github(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def in_jupyterlab(heading: str) -> str:
    """The anchor that JupyterLab makes of a heading (createHeaderId in its package rendermime)."""
    return heading.replace(" ", "-")


def read_entry(text: str) -> dict:
    heading, meta, *rest = text.strip().split("\n\n")
    explicit, term = re.fullmatch(r'(?:<a id="(.+?)"></a>)?(.+)', heading).groups()
    names = dict(re.findall(r"(In the article|Also|In the notebook): (.+?)\.(?= |$)", " ".join(rest), re.M))
    meta, _, before = meta.partition("met before in ")
    return {
        "term": term,
        "anchor": explicit or in_jupyterlab(term),
        "chinese": re.match(r"\*\*(.+?)\*\*", meta)[1],
        "symbol": (re.findall(r"\$(.+?)\$", meta) or [None])[0],
        "notebook": re.findall(r"\]\(\.\./notebooks/(.+?)\)", meta),
        "before": re.findall(r"\]\(\.\./notebooks/(.+?)\)", before),
        "other sense": "in another sense before" in meta,
        "meaning": rest[0],
        "article": names.get("In the article"),
        "names": [term, *re.findall(r"\*(.+?)\*", names.get("Also", ""))],
        "here": re.findall(r"\*(.+?)\*", names.get("In the notebook", "")),
    }


ENTRIES = [read_entry(text) for text in re.findall(r"^### (.*?)(?=^##|\Z)", ENTRIES_TEXT, re.M | re.S)]


def lesson(path: Path) -> str:
    """The markdown of a notebook between the frame at its top and the exercises."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells[1:] if cell.cell_type == "markdown"]
    return END_OF_LESSON.split("\n\n".join(cells))[0]


LESSONS = {path.name: lesson(path) for path in NOTEBOOKS}
PROSE = {name: NOT_PROSE.sub(" ~ ", text) for name, text in LESSONS.items()}
LINKS = {name: LINK.findall(text) for name, text in LESSONS.items()}


def pattern(words: str) -> str:
    """A regular expression for these words, in the singular or plural, over a line's end too."""
    words = words.lower()
    plural = (
        re.escape(words[:-1]) + "(?:y|ies)" if len(words) > 3 and words.endswith("y") else re.escape(words) + "(?:e?s)?"
    )
    return r"(?<![\w-])" + plural.replace(r"\ ", r"\s+") + r"(?![\w-])"


def formulas(name: str) -> str:
    return "\n".join(re.findall(r"\$\$.+?\$\$|\$[^$]+\$", LESSONS[name], re.S))


def test_there_are_entries():
    assert len(ENTRIES) == ENTRIES_TEXT.count("\n### ") > 100


def test_every_entry_is_whole():
    for entry in ENTRIES:
        assert re.search(r"[\u4e00-\u9fff]", entry["chinese"]) or entry["chinese"] == entry["term"], entry["term"]
        assert re.search(r"\w{3}.*\.\)?$", entry["meaning"], re.S), entry["term"]
        assert len(entry["notebook"]) == 1, entry["term"]
        assert {*entry["notebook"], *entry["before"]} <= set(NAMES), entry["term"]


def test_anchors_lead_to_their_entries_on_github_and_in_jupyterlab():
    for entry in ENTRIES:
        assert entry["anchor"] == on_github(entry["term"])


def test_every_entry_is_linked_once_by_its_own_name_from_the_notebook_that_it_names():
    for entry in ENTRIES:
        links = [(name, text) for name in NAMES for text, anchor in LINKS[name] if anchor == entry["anchor"]]
        assert [name for name, _ in links] == entry["notebook"], entry["term"]
        text = re.sub(r"[*\s]+", " ", links[0][1]).strip().lower()
        names = entry["names"] + entry["here"]
        assert any(re.fullmatch(pattern(words), text) for words in names), f"{text!r} for {entry['term']!r}"


def test_no_earlier_notebook_uses_a_term_unless_the_entry_says_so():
    for entry in ENTRIES:
        word = re.compile("|".join(pattern(words) for words in entry["names"]), re.I)
        earlier = NAMES[: NAMES.index(entry["notebook"][0])]
        used = [name for name in earlier if word.search(PROSE[name])]
        if entry["other sense"]:
            assert used, entry["term"]
            assert not entry["before"], entry["term"]
        else:
            assert used == entry["before"], entry["term"]


def test_every_link_leads_to_an_entry():
    anchors = {entry["anchor"] for entry in ENTRIES}
    for path in NOTEBOOKS:
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        linked = re.findall(r"glossary\.md(?:#([^)]*))?\)", text)
        assert len(linked) == len(LINKS[path.name]), "a link outside the lesson's text, or of another form"
        assert set(linked) <= anchors, path.name


def test_no_notebook_is_crowded_with_links():
    assert not [name for name in NAMES if len(LINKS[name]) > MOST_LINKS]


def test_no_term_is_defined_twice():
    for what in ("anchor", "chinese", "symbol"):
        values = [entry[what] for entry in ENTRIES if entry[what]]
        assert len(values) == len(set(values)), what
    names = [name.lower() for entry in ENTRIES for name in entry["names"]]
    assert len(names) == len(set(names))


def test_the_entries_are_in_alphabetical_order_under_their_letters():
    terms = [entry["term"].casefold() for entry in ENTRIES]
    assert terms == sorted(terms)
    letters = [text[0] for text in re.findall(r"^### (?:<a id=\S+></a>)?(.)", ENTRIES_TEXT, re.M)]
    headings = re.findall(r"^## (.+)$", ENTRIES_TEXT, re.M)
    assert headings == sorted({letter.upper() for letter in letters})
    for part in re.split(r"^## ", ENTRIES_TEXT, flags=re.M)[1:]:
        assert {letter.upper() for letter in re.findall(r"^### (?:<a id=\S+></a>)?(.)", part, re.M)} == {part[0]}


def test_the_chinese_index_holds_what_the_entries_say():
    wanted = {(entry["chinese"], entry["term"]) for entry in ENTRIES if entry["chinese"] != entry["term"]}
    wanted |= {(entry["article"] + "（文中）", entry["term"]) for entry in ENTRIES if entry["article"]}
    assert {(chinese, term) for chinese, _, term, _ in INDEX} == wanted
    assert len(INDEX) == len(wanted) == INDEX_TEXT.count("](#")
    anchors = {entry["term"]: entry["anchor"] for entry in ENTRIES}
    assert all(anchors[term] == anchor for _, _, term, anchor in INDEX)


def test_the_chinese_index_is_in_the_order_of_its_pinyin():
    def syllables(pinyin: str) -> list[str]:
        letters = unicodedata.normalize("NFD", pinyin.casefold())
        return "".join(letter for letter in letters if not unicodedata.combining(letter)).split()

    keys = [syllables(pinyin) for _, pinyin, _, _ in INDEX]
    assert keys == sorted(keys)
    for chinese, pinyin, _, _ in INDEX:  # a syllable for each character, and Latin letters as they are
        chinese = chinese.removesuffix("（文中）")
        characters = re.findall(r"[\u4e00-\u9fff]|[A-Za-z]+", chinese)
        assert len(characters) == len(pinyin.split()), chinese


def test_the_symbols_are_those_of_the_notebooks():
    letters = next(name for name in NAMES if name.startswith("02_"))
    for entry in ENTRIES:
        if entry["symbol"]:
            symbol = re.escape(entry["symbol"]) + r"(?![A-Za-z])"
            places = formulas(entry["notebook"][0]) + formulas(letters)
            assert re.search(rf"(?<![A-Za-z\\]){symbol}", places), entry["term"]
    table = re.search(r"^\| in formulas \|.*?(?=\n\n)", LESSONS[letters], re.M | re.S)[0]
    defined = [symbol for row in table.splitlines()[2:] for symbol in re.findall(r"\$(.+?)\$", row.split("|")[1])]
    assert set(defined) <= {entry["symbol"] for entry in ENTRIES}
