"""The slides as a lecturer shows them: opened from the disk in a browser that reaches no network, walked by keys."""

import pytest

from classroom import slides

NOTEBOOKS = sorted((slides.ROOT / "notebooks").glob("*.ipynb"))
BODY, CODE = 28, 20  # pixels on a page of 1280 x 720: the smallest type that the last row reads
CONTRAST = 7  # WCAG 2.2, success criterion 1.4.6

# What is wrong with the slide that is shown now, as sentences.
FAULTS = """([body, code, contrast]) => {
    const faults = [], page = Reveal.getCurrentSlide().querySelector('.page'), frame = page.getBoundingClientRect();
    const seen = [...page.querySelectorAll('*')].filter(node => !node.closest('.notes, mjx-assistive-mml, svg *'));
    const channels = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => {
        const [r, g, b] = channels(colour).map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = node => {
        for (; node; node = node.parentElement) {
            const colour = getComputedStyle(node).backgroundColor;
            if ((channels(colour)[3] ?? 1) > 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    for (const node of seen) {
        const box = node.getBoundingClientRect(), inside = box.left >= frame.left && box.top >= frame.top;
        if (!inside || box.right > frame.right + 1 || box.bottom > frame.bottom - 30)
            faults.push(`${node.tagName} leaves the page: ${node.textContent.slice(0, 60)}`);
        if (node.scrollWidth > node.clientWidth + 1 && node.clientWidth && getComputedStyle(node).display === 'block')
            faults.push(`${node.tagName} is too wide: ${node.textContent.slice(0, 60)}`);
        if (node.tagName === 'IMG' && !(node.complete && node.naturalWidth > 0 && node.alt.length > 15))
            faults.push(`picture without content or text: ${node.alt || node.src.slice(0, 80)}`);
        const own = [...node.childNodes].filter(child => child.nodeType === Node.TEXT_NODE);
        const text = own.map(child => child.data).join('').trim(), isCode = node.closest('code, pre');
        if (!text) continue;
        const style = getComputedStyle(node), size = parseFloat(style.fontSize);
        if (size < (isCode ? code : body)) faults.push(`${size} px: ${text}`);
        if (!isCode && /\\$|\\\\[a-z]/.test(text)) faults.push(`raw formula: ${text}`);
        const [low, high] = [light(style.color), light(behind(node))].sort((a, b) => a - b);
        if ((high + 0.05) / (low + 0.05) < contrast) faults.push(`contrast: ${text}`);
    }
    if (!/^H[123]$/.test(page.firstElementChild.tagName)) faults.push('no heading');
    if (page.querySelector('mjx-merror, [data-mjx-error]')) faults.push('a formula that MathJax cannot read');
    return faults;
}"""


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    """A folder with all decks, under a name with blanks and letters of another script."""
    out = tmp_path_factory.mktemp("decks") / "幻灯片 (slides)"
    try:
        slides.make(NOTEBOOKS, out)
    except ConnectionError as error:
        pytest.skip(str(error))
    return out


@pytest.fixture
def page(chromium):
    """A page without a network, which notes what it asks of one, and its errors."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720}, offline=True)
    page = context.new_page()
    page.asked, page.errors = [], []
    context.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    yield page
    assert page.asked
    assert not [url for url in page.asked if not url.startswith(("file:", "data:", "about:", "blob:"))]
    assert not page.errors
    context.close()


def open_deck(page, decks, name, query=""):
    page.goto((decks / f"{name}.html").as_uri() + query)
    page.wait_for_function("document.documentElement.dataset.ready", timeout=120_000)


@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS])
def test_every_slide_can_be_read_and_the_arrow_key_reaches_it(decks, page, name):
    open_deck(page, decks, name)
    total = page.evaluate("Reveal.getTotalSlides()")
    assert total > 20
    faults, reached = {}, set()
    # A slide with an answer takes the key twice.
    for _ in range(total + page.locator(".fragment").count()):
        number = page.evaluate("Reveal.getSlidePastCount()")
        if number not in reached and (found := page.evaluate(FAULTS, [BODY, CODE, CONTRAST])):
            faults[number + 1] = found
        reached.add(number)
        page.keyboard.press("ArrowRight")
    assert not faults
    assert reached == set(range(total)), "the arrow key does not reach every slide"
    assert page.evaluate("Reveal.isLastSlide()")
    assert page.locator(".slide-number").inner_text().replace("\xa0", "").split() == f"{total} / {total}".split()


def test_the_headings_of_a_deck_are_in_order(decks, page):
    open_deck(page, decks, NOTEBOOKS[0].stem)
    levels = page.evaluate("[...document.querySelectorAll('.page > :is(h1, h2, h3)')].map(node => +node.tagName[1])")
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))


def test_an_answer_comes_with_the_next_key(decks, page):
    open_deck(page, decks, NOTEBOOKS[0].stem)
    answer = page.locator(".page:has(> h2:text-is('Check yourself')) .fragment").first
    page.evaluate(
        "node => { const at = Reveal.getIndices(node.closest('section')); Reveal.slide(at.h, at.v) }",
        answer.element_handle(),
    )
    assert not answer.is_visible()
    page.keyboard.press("ArrowRight")
    answer.wait_for(state="visible")


def test_the_speaker_view_shows_the_prose(decks, page):
    open_deck(page, decks, "02_loss_derivation", "#/2")
    said = page.evaluate("Reveal.getSlideNotes()")
    with page.context.expect_page() as opened:
        page.keyboard.press("s")
    view = opened.value
    notes = view.locator(".speaker-controls-notes .value")
    notes.filter(has_text="likelihood").wait_for(timeout=60_000)
    assert "<svg" in said and notes.locator("svg").count() > 0, "formulas are typeset in the notes, too"
    shown = view.frame_locator("#current-slide iframe").locator("section.present .page h2:visible").first
    shown.wait_for(timeout=60_000)
    assert "likely" in shown.inner_text()


def test_a_deck_prints_one_slide_a_page(decks, page):
    open_deck(page, decks, NOTEBOOKS[0].stem, "?print-pdf")
    page.locator(".pdf-page").first.wait_for()
    total = page.evaluate("document.querySelectorAll('.page').length")
    assert page.locator(".pdf-page").count() == total
    printed = page.pdf(prefer_css_page_size=True, print_background=True)
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") == total


def test_the_index_leads_to_every_deck(decks, page):
    page.goto((decks / "index.html").as_uri())
    links = page.locator("li a")
    assert links.count() == len(NOTEBOOKS)
    links.last.click()
    page.wait_for_function("document.documentElement.dataset.ready", timeout=120_000)
    assert NOTEBOOKS[-1].stem in page.url
