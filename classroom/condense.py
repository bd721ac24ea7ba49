"""What of a notebook's prose, code and printed text a slide shows: the rules, and nothing about the slide itself."""

import ast
import copy
import re
import sys

from bs4 import BeautifulSoup

ROOM = 420  # characters of prose that a page takes well: what is longer is cut down to its key sentences
SHORT = 25  # characters: a sentence below that says too little alone
CODE_LINES = 14  # of a code cell, at most
TEXT_LINES = 14  # of what a cell has printed
LINE = 100  # characters of printed text that fit side by side


def condensed(tags: list, *, in_full: bool = False) -> str:
    """What a slide shows of paragraphs, lists and the like: of each as many sentences as there is room for, and a key
    sentence at least."""
    for count in [sys.maxsize] if in_full else [sys.maxsize, 2, 1]:
        cut = [shortened_to(copy.copy(tag), count) for tag in tags]
        if sum(len(plain(tag)) for tag in cut) <= ROOM:
            break
    return "".join(str(tag) for tag in cut)


def shortened_to(tag, count: int):
    """The tag with no more than `count` sentences and the bold ones in each paragraph and list item; quotes stay."""
    for block in [tag, *tag.find_all(["p", "li"])]:
        holds_others = block.name not in ("p", "li") or block.find(["p", "ul", "ol", "pre"])
        if not holds_others and not block.find_parent("blockquote"):
            kept = BeautifulSoup(key_sentences(block.decode_contents(), count), "html.parser")
            block.clear()
            block.extend(list(kept.contents))
    for pre in [tag, *tag.find_all("pre")]:
        if pre.name == "pre" and len(pre.get_text().splitlines()) > CODE_LINES:
            pre.string = shortened(pre.get_text(), CODE_LINES)
    return tag


END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bal)[.?!][”\"’)]*\0*\s+(?=[^a-z])")


def key_sentences(text: str, count: int = 1) -> str:
    """Of a paragraph in HTML: the first sentences, `count` of them that say something, and those with bold words."""
    # Points inside code and formulas end no sentence; those before a closing tag do.
    masked = re.sub(r"(?s)<code>.*?</code>|\$\$.*?\$\$|\$[^$]+\$", lambda found: "X" * len(found[0]), text)
    masked = re.sub(r"<[^>]+>", lambda found: "\0" * len(found[0]), masked)
    ends = [0, *(found.end() for found in END.finditer(masked)), len(text)]
    kept, said = [], 0
    for start, end in zip(ends, ends[1:], strict=False):
        sentence = text[start:end]
        if said < count or "<strong>" in sentence or sentence.startswith("$$"):
            kept.append(sentence)
            is_title = sentence.rstrip().endswith("</strong>")
            said += not is_title and len(plain("".join(kept))) >= SHORT
    return "".join(kept)


def squeezed(text: str) -> str:
    """Printed columns moved together until they fit side by side, as far as more than two blanks are between them."""
    lines = text.splitlines()
    lines = [line.ljust(max(map(len, lines))) for line in lines]
    while len(lines[0]) > LINE:
        taken = "".join("x" if any(letter != " " for letter in column) else " " for column in zip(*lines, strict=True))
        widest = max(re.finditer(r" {3,}(?=x)", taken), key=lambda gap: len(gap[0]), default=None)
        if widest is None:
            break
        lines = [line[: widest.start()] + line[widest.start() + 1 :] for line in lines]
    return "\n".join(line.rstrip() for line in lines)


def shortened(text: str, limit: int) -> str:
    """The first lines of a text, so many that they take no more than `limit` lines on a slide."""
    kept, room = [], limit
    for line in text.rstrip("\n").splitlines():
        room -= max(1, -(-len(line) // LINE))
        if room < 0:
            return "\n".join([*kept, "… the rest is in the notebook"])
        kept.append(line)
    return "\n".join(kept)


DRAWING = re.compile(r"figure\b|fig\b|axe?s?\b|plt\.|plots?\.|plot_|show\(|for .*\b(axes|ax)\b")


def only_sets_up(source: str) -> bool:
    return len(re.findall(r"^(?:import|from) ", source, re.MULTILINE)) * 2 > len(source.splitlines())


def essential(source: str, *, drawn: bool = False, stub: bool = False) -> str:
    """The lines of a code cell that a room should read: at most CODE_LINES, or none where no rule makes it so short.

    drawn: it draws a figure, which says more than its code. stub: the cell of an exercise, without its call of check.
    """
    if stub:
        source = re.split(r"^#? *exercises\.", source, flags=re.MULTILINE)[0].strip()
    if drawn or only_sets_up(source):
        return ""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a line for IPython
        return source if len(source.splitlines()) <= CODE_LINES else ""
    lines, start, pieces = source.splitlines(), 0, []
    for node in body:
        pieces.append((node, lines[start : node.end_lineno]))
        start = node.end_lineno
    less_and_less = (
        lambda node: isinstance(node, (ast.Import, ast.ImportFrom, ast.Assert)),
        lambda node: DRAWING.match(ast.unparse(node)),
        lambda node: ast.unparse(node).startswith("print("),
    )
    for unwanted in less_and_less:
        pieces = [(node, piece) for node, piece in pieces if not unwanted(node)]
        kept = re.sub(r"\n{2,}", "\n\n", "\n".join(line for _, piece in pieces for line in piece)).strip("\n")
        if len(kept.splitlines()) <= CODE_LINES:
            return kept
    return ""


def plain(tag) -> str:
    """The text of HTML, or of a tag, without its marks."""
    return (BeautifulSoup(tag, "html.parser") if isinstance(tag, str) else tag).get_text().strip()
