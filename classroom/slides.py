"""Slides from the notebooks, for the front of a room: python -m classroom.slides [NOTEBOOK ...] [--out DIR]

One deck a notebook and an index.html. They open by a double-click, without a network. Keys: the arrows walk through all
slides, S opens the speaker view with the prose in full, Esc shows an overview, F fills the screen, ? lists the others.
For a PDF open the deck with ?print-pdf behind its address, and print that from Chrome or Edge, without margins.

No slide is written by hand. Of the prose a slide shows the key sentences, and its notes all; code is shortened to what
is essential; a question stands before its answer. A cell that needs another rule says so in its metadata,
{"slideshow": {"slide_type": ...}}: "skip" leaves it out, "notes" has it in the notes alone; "slide" and "subslide" show
it in full on a page of its own, "fragment" in full after a further key.
"""

import argparse
import base64
import html
import io
import re
import shutil
import sys
import tarfile
import urllib.parse
from pathlib import Path
from typing import NamedTuple

import jinja2
import nbformat
from bs4 import BeautifulSoup
from nbconvert.filters import Highlight2HTML, markdown2html
from PIL import Image

from classroom.condense import TEXT_LINES, condensed, essential, only_sets_up, plain, shortened, squeezed
from course_utils.files import write_atomically
from course_utils.full_size.downloads import RemoteFile, fetch

ROOT = Path(__file__).resolve().parent.parent
PARTS = Path(__file__).parent / "deck"  # the template, the style and the script of a deck

TABLE_ROWS = 8


def npm(name: str, version: str, size: int, integrity: str) -> RemoteFile:
    """A package of the npm registry, known by the SHA-512 that the registry itself publishes as its `integrity`."""
    file = f"{name}-{version}.tgz"
    hosts = ("https://registry.npmjs.org", "https://registry.npmmirror.com")
    checksum = "sha512:" + base64.b64decode(integrity).hex()
    return RemoteFile(file, checksum, size, tuple(f"{host}/{name}/-/{file}" for host in hosts))


# What a deck needs, and which files of it. MathJax 3, since its tex-svg.js is whole: MathJax 4 loads fonts as it goes.
REVEAL = npm(
    "reveal.js",
    "6.0.2",
    3_214_517,
    "JYIg5D9aoxoaLeb84O+OvAwsKWdIavVgEDScxtYEXFCT6t6TQrhNtSgogcjdCpdLsWglhJn3zyE3fUOwiH5KEg==",
)
MATHJAX = npm(
    "mathjax",
    "3.2.2",
    6_132_118,
    "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
)
PACKAGES = {
    REVEAL: ("LICENSE", "dist/reset.css", "dist/reveal.css", "dist/reveal.js", "dist/plugin/notes.js"),
    MATHJAX: ("LICENSE", "es5/tex-svg.js"),
}


class Part(NamedTuple):
    """What stands under one heading. The script of a deck lays its groups out on as many pages as they need."""

    level: int  # 1 the title, 2 or 3 a section
    heading: str  # HTML
    groups: list[str]  # HTML, each kept on one page where it fits


def main(arguments: list[str] | None = None) -> int:
    """Make the decks. Returns 0, or 1 with a sentence on stderr where something is missing."""
    about, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m classroom.slides",
        description=about.partition(":")[0],
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all of the course")
    parser.add_argument("--out", type=Path, default=Path("slides"), metavar="DIR", help="where to (default: slides)")
    parser.add_argument("--from", dest="origin", type=Path, metavar="DIR", help="take reveal.js and MathJax from here")
    args = parser.parse_args(arguments)
    try:
        make(args.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb")), args.out, args.origin)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Open {args.out / 'index.html'} in a browser.")
    return 0


def make(notebooks: list[Path], out: Path, origin: Path | None = None, cache: Path = ROOT / "data") -> None:
    """A deck for each notebook, the index, and beside them all that they load.

    Raises OSError where a notebook or a package is not to be had, ValueError for a file that is no notebook.
    """
    decks = {path.stem: read(path) for path in notebooks}
    collect_packages(out, origin, cache)
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(PARTS, encoding="utf-8"), autoescape=True)
    for path in notebooks:
        parts = parts_of(decks[path.stem], path.parent, out)
        page = templates.get_template("deck.html").render(parts=parts, title=plain(parts[0].heading), name=path.stem)
        write_atomically(out / f"{path.stem}.html", page.encode())
    for name in ("deck.css", "deck.js"):
        shutil.copyfile(PARTS / name, out / name)
    # The index names every deck in the folder: those of earlier calls stay.
    titles = {path.stem: plain(title) for path in sorted(out.glob("*.html")) if (title := read_title(path))}
    write_atomically(out / "index.html", templates.get_template("index.html").render(titles=titles).encode())


def read(path: Path) -> nbformat.NotebookNode:
    try:
        notebook = nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no notebook {path}.") from None
    except OSError:
        raise
    except Exception:  # nbformat raises whatever it stumbles over
        raise ValueError(f"{path} is no notebook.") from None
    if not notebook.cells or not notebook.cells[0].source.startswith("# "):
        raise ValueError(f"{path} does not begin with a title, a line like: # The title")
    return notebook


def read_title(page: Path) -> str:
    """The title of a deck, in HTML; "" of any other page: the index, or one of somebody's own."""
    text = page.read_text(encoding="utf-8", errors="replace")
    return re.search(r"<title>(.*?)</title>", text)[1] if 'src="deck.js"' in text else ""


def collect_packages(out: Path, origin: Path | None, cache: Path) -> None:
    """reveal.js and MathJax into the folder `vendor` of the decks, with their licences. The archives are kept."""
    for package, members in PACKAGES.items():
        sources = package.sources if origin is None else (origin / package.name,)
        try:
            archive = fetch(package, cache, sources)
        except ConnectionError as error:
            raise ConnectionError(
                f"{error}\nThe slides need {package.name} once. Where there is no network, bring it along and name its "
                "folder: --from DIR"
            ) from error
        folder = out / "vendor" / package.name.rpartition("-")[0]
        with tarfile.open(archive) as tar:
            for member in members:  # read by name, so that no path inside the archive decides where a file goes
                write_atomically(folder / member, tar.extractfile(f"package/{member}").read())


def parts_of(notebook: nbformat.NotebookNode, folder: Path, out: Path) -> list[Part]:
    """All parts of a deck, in order. folder: where the notebook lies; pictures that it names are copied to `out`."""
    parts = []
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "-")
        if kind == "skip":
            continue
        if cell.cell_type == "markdown":
            add_prose(parts, cell.source, kind, folder, out)
        elif cell.cell_type == "code":
            is_exercise = among_exercises(parts) and kind == "-"
            in_full = kind not in ("-", "notes")
            blocks = code_blocks(cell, folder, out, is_exercise=is_exercise, in_full=in_full)
            if kind == "notes":
                blocks = [aside(blocks)]
            parts[-1].groups.extend(group([block], kind) for block in blocks)
    return parts


def among_exercises(parts: list[Part]) -> bool:
    """Whether what comes next stands among the exercises: they are shown in full, and without their answers."""
    return next((plain(part.heading) for part in reversed(parts) if part.level <= 2), "") == "Exercises"


def group(blocks: list[str], kind: str = "-", *, last: bool = False, title: str = "") -> str:
    """Blocks that belong together. last: what follows comes on another page. title: pages of its own, under it."""
    classes = "group fragment" if kind == "fragment" else "group"
    marks = ' data-own="true"' if kind in ("slide", "subslide") or title else ""
    marks += ' data-last="true"' if last or title else ""
    marks += f' data-title="{html.escape(title)}"' if title else ""
    return f'<div class="{classes}"{marks}>{"".join(blocks)}</div>'


def aside(said: list) -> str:
    return f'<aside class="notes">{"".join(str(tag) for tag in said)}</aside>'


def add_prose(parts: list[Part], source: str, kind: str, folder: Path, out: Path) -> None:
    """Split a cell at its headings, questions and pictures, and put the key sentences on slides, all of it in notes."""
    soup = BeautifulSoup(markdown2html(source), "html.parser")
    tidy(soup, folder, out)
    said, label = [], ""  # what has not been put into a group yet; a heading for the questions that follow

    def close(question: bool = False) -> None:
        shown = [] if kind == "notes" else [tag for tag in said if parts[-1].level > 1 or belongs_to_title(tag, said)]
        if said:
            blocks = [condensed(shown, in_full=kind != "-" or question or among_exercises(parts))]
            if question:
                blocks = [f'<div class="question">{blocks[0]}</div>']
            parts[-1].groups.append(group([*blocks, aside(said)], kind, last=question))
        said.clear()

    for tag in [tag for tag in soup.contents if tag.name]:
        bold = [plain(strong) for strong in tag.find_all("strong")] if tag.name == "p" else []
        if tag.name in ("h1", "h2", "h3"):
            close()
            parts.append(Part(int(tag.name[1]), tag.decode_contents(), []))
        elif tag.name == "img" or (tag.name == "p" and tag.img and not plain(tag)):
            close()
            parts[-1].groups.extend(group([str(image)], kind) for image in tag.find_all("img") or [tag])
        elif tag.name == "details" and tag.summary:
            asked = tag.summary.extract().decode_contents()
            if asked == "Answer" and said:  # then the question is what stands before it
                asked = (said[-1].li or said[-1]).decode_contents()
                said.pop()
            close()
            answer = condensed(tag.find_all(recursive=False), in_full=kind != "-")
            blocks = [f'<div class="question">{asked}</div>', f'<div class="fragment">{answer}</div>', aside([tag])]
            parts[-1].groups.append(group(blocks, kind, title=label or plain(parts[-1].heading)))
        elif bold == [plain(tag)] and "<details" in source and bold[0][-1] not in ".?:":
            label = bold[0]
        elif any(words.startswith("Predict") for words in bold):
            close()
            said.append(tag)
            close(question=True)
        else:
            said.append(tag)
    close()


def belongs_to_title(tag, said: list) -> bool:
    """Of the first cell the title shows the promise: its first paragraph, and what the reader will do."""
    return tag is said[0] or tag.name == "ul" or plain(tag).startswith("You will")


def tidy(soup: BeautifulSoup, folder: Path, out: Path) -> None:
    """Leave no link into the notebook's folder and no diagram that a script draws; copy the pictures."""
    for tag in soup.select("a.anchor-link, .jp-Mermaid"):
        tag.decompose()
    for details in soup.select("details:has(img)"):  # a picture that stands in for a diagram
        details.replace_with(*details.find_all("img"))
    for link in soup.find_all("a"):
        target = link.get("href", "")
        if re.fullmatch(r"[^/:]+\.ipynb", target):
            link["href"] = target.replace(".ipynb", ".html")
        elif not target.startswith(("http://", "https://")):
            link.unwrap()
    for image in soup.find_all("img"):
        path = folder / urllib.parse.unquote(image["src"])
        place = Path("images", *path.parts[-2:])
        write_atomically(out / place, path.read_bytes())
        image["src"] = place.as_posix()
        image["width"], image["height"] = size_of(path)
    for table in soup.find_all("table"):
        rows = table.find_all("tr")
        for row in rows[TABLE_ROWS + 1 :]:
            row.decompose()
        if len(rows) > TABLE_ROWS + 1:
            note = BeautifulSoup(f"<p>… and {len(rows) - TABLE_ROWS - 1} more rows in the notebook.</p>", "html.parser")
            table.insert_after(note)


def code_blocks(cell: nbformat.NotebookNode, folder: Path, out: Path, *, is_exercise: bool, in_full: bool) -> list[str]:
    """A code cell as HTML: its code with what it printed, then each figure."""
    figures, texts = [], []
    for output in cell.outputs:
        data = output.get("data", {})
        soup = BeautifulSoup(data.get("text/html", ""), "html.parser")
        pictures = soup.select('img[src^="data:image/png;base64,"]')
        if "image/png" in data:
            alt = output.metadata.get("image/png", {}).get("alt", "")
            pictures = [{"src": f"data:image/png;base64,{data['image/png'].strip()}", "alt": alt}]
        figures += [figure(picture["src"], picture.get("alt", "")) for picture in pictures]
        if output.output_type == "stream" and output.name == "stdout":
            texts.append(output.text)
        elif output.output_type == "error":
            texts.append(f"{output.ename}: {output.evalue}")
        elif "text/markdown" in data:
            table = BeautifulSoup(markdown2html(data["text/markdown"]), "html.parser")
            tidy(table, folder, out)
            figures.append(str(table))
        elif "text/plain" in data and not data.keys() - {"text/plain"}:
            texts.append(data["text/plain"])
    code = cell.source if in_full else essential(cell.source, drawn=bool(figures), stub=is_exercise)
    blocks = [Highlight2HTML()(code, language="python")] if code.strip() else []
    if is_exercise:
        return blocks
    text = "".join(text if text.endswith("\n") else text + "\n" for text in texts)
    if text.strip() and (in_full or not only_sets_up(cell.source)):
        text = text if in_full else shortened(squeezed(text), TEXT_LINES)
        blocks.append(f'<pre class="printed">{html.escape(text.rstrip())}</pre>')
    return (["".join(blocks)] if blocks else []) + figures


def figure(source: str, alt: str) -> str:
    """An img tag with the size of its picture, from which the script of a deck derives how large it is shown."""
    width, height = size_of(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    return f'<img src="{source}" alt="{html.escape(alt)}" width="{width}" height="{height}">'


def size_of(picture) -> tuple[int, int]:
    """Width and height in pixels, of a path or a stream."""
    with Image.open(picture) as image:
        return image.size


if __name__ == "__main__":
    sys.exit(main())
