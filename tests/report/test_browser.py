"""The page in a real browser: it opens from disk, asks for nothing else, and fits a phone."""

import pytest

from tests.chromium import open_chromium

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    with open_chromium() as chromium:
        yield chromium


@pytest.fixture(params=["synthetic", "real"])
def path(request):
    return request.getfixturevalue(request.param).report / "index.html"


@pytest.fixture
def visit(browser, path):
    """Open the page at a width and a scheme; return it with everything that it said and asked for."""
    contexts = []

    def open_at(width, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
        return page, said, asked

    yield open_at
    for context in contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_loads_without_a_word_and_asks_only_for_itself(visit, path, scheme):
    page, said, asked = visit(1280, scheme)
    assert said == []
    assert asked == [path.as_uri()]
    assert page.title()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in paper[4:-1].split(",")) < 200) == (scheme == "dark")


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_nothing_sticks_out_of_the_page(visit, width):
    page, _, _ = visit(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # Wide tables scroll within themselves and can be reached by keyboard.
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0)")


def test_figures_are_drawn(visit):
    page, _, _ = visit(1280)
    sizes = page.evaluate(
        "[...document.querySelectorAll('figure svg[role=img]')].map(s => [s.clientWidth, s.clientHeight])"
    )
    assert len(sizes) >= 6
    assert all(width > 200 and height > 40 for width, height in sizes)
    # Rasters within the drawings decode to pixels.
    loaded = page.evaluate(
        """Promise.all([...document.querySelectorAll('svg image')].map(async element => {
            const image = new Image(); image.src = element.getAttribute('href');
            await image.decode(); return image.naturalWidth;
        }))"""
    )
    assert len(loaded) >= 4
    assert min(loaded) > 0
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_lettering_is_readable_on_a_phone(visit):
    page, _, _ = visit(360)
    sizes = page.evaluate(
        """[...document.querySelectorAll('figure svg text')].map(t =>
            parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.clientWidth
            / t.ownerSVGElement.viewBox.baseVal.width)"""
    )
    assert sizes
    assert min(sizes) >= 8


def test_every_link_of_the_contents_leads_somewhere(visit):
    page, _, _ = visit(1280)
    links = page.locator("nav a")
    assert links.count() >= 6
    for link in links.all():
        link.focus()
        page.keyboard.press("Enter")
        target = page.evaluate("location.hash.slice(1)")
        assert page.locator(f"section#{target} h2").is_visible()
