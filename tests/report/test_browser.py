"""The page in a real browser: it opens from disk, asks for nothing else, and fits a phone."""

from itertools import pairwise

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

    def open_at(width, scheme="light", unfold=True):
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
        if unfold:
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


@pytest.mark.parametrize("unfold", [True, False])
@pytest.mark.parametrize("width", [360, 390, 800, 1280])
def test_nothing_sticks_out_of_the_page(visit, width, unfold):
    page, _, _ = visit(width, unfold=unfold)
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


@pytest.mark.parametrize(("width", "most"), [(1280, 5800), (390, 9250)])
def test_the_story_is_short_until_something_is_unfolded(visit, width, most):
    page, _, _ = visit(width, unfold=False)
    assert page.evaluate("document.documentElement.scrollHeight") <= most
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.evaluate("document.documentElement.scrollHeight") > 1.5 * most


def test_what_is_folded_is_printed(visit):
    page, _, _ = visit(800, unfold=False)
    seen = """[...document.querySelectorAll('details')].map(d =>
        [...d.children].slice(1).every(e => e.checkVisibility({contentVisibilityAuto: true})
                                            && e.getBoundingClientRect().height > 0))"""
    folded = page.evaluate(seen)
    assert len(folded) >= 8
    assert not any(folded)
    page.emulate_media(media="print")
    page.wait_for_function(f"{seen}.every(Boolean)", timeout=5000)
    assert all(page.evaluate(seen))


def test_landmarks_headings_and_links(visit):
    page, _, _ = visit(1280)
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    named = """[...document.querySelectorAll('[aria-labelledby]')].every(e =>
        document.getElementById(e.getAttribute('aria-labelledby'))?.textContent.trim())"""
    assert page.evaluate(named)
    links = page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    assert all(link.startswith(("#", "https://")) for link in links)
    assert page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].every(a => document.querySelector(a.hash))"
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_no_two_words_of_a_figure_lie_on_one_another(visit, width):
    page, _, _ = visit(width)
    found = page.evaluate(
        """[...document.querySelectorAll('figure svg')].flatMap(svg => {
            const all = [...svg.querySelectorAll('text')].map(t => [t.textContent.trim(), t.getBoundingClientRect()]);
            return all.flatMap(([a, p], i) => all.slice(i + 1).filter(([b, q]) =>
                Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2 &&
                Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3).map(([b]) => `${a} | ${b}`));
        })"""
    )
    assert found == []
