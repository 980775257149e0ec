"""The report in a real browser: it fits, loads nothing, sorts its tables, enlarges its pictures."""

import json
from pathlib import Path

import pytest
from page_browser import browser, look_as, webdriver

from truemask.report.pages import render_report

__all__ = ["browser"]
NAMES = (
    "<script>hacked=1</script>",
    *(f"class {i} whose name is long and goes on and on" for i in range(1, 11)),
    "w" * 80,
)


@pytest.fixture
def show(browser, make_run):
    """Open the report of a run in a window of so many pixels, and forget what was logged before."""

    def show(*, width: int = 1280, scheme: str = "light", **options) -> Path:
        look_as(browser, width=width, scheme=scheme)
        path = render_report(make_run(**options))
        browser.get_log("performance")
        browser.get(path.as_uri())
        return path

    return show


def column(browser, place: int) -> list[str]:
    script = """
      return [...document.querySelectorAll('#classes tbody tr')].map(
        (row) => row.cells[arguments[0]].textContent.trim());
    """
    return browser.execute_script(script, place)


@pytest.mark.parametrize("width", [320, 360, 390, 768, 1280])
@pytest.mark.parametrize("names", [("background", "crack"), NAMES])
def test_the_page_never_scrolls_sideways(browser, show, width, names):
    show(width=width, names=names, subgroups=True, epochs=200)
    seen = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert seen == [width, width]


def test_nothing_is_loaded_and_nothing_is_logged(browser, show):
    path = show(names=NAMES, absent=3)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    asked = [params["request"]["url"] for params in sent]
    assert path.as_uri() in asked
    assert [url for url in asked if not url.startswith("data:") and url != path.as_uri()] == []
    assert browser.get_log("browser") == []
    assert browser.execute_script("return typeof window.hacked") == "undefined"


def test_every_picture_is_decoded(browser, show):
    show()
    script = "return [...document.querySelectorAll('.strip img')].map(image => image.naturalWidth)"
    assert browser.execute_script(script) == [48] * (2 * 2 + 4 * 4)


def test_a_table_sorts_and_what_does_not_occur_stays_last(browser, show):
    show(names=NAMES, absent=3)
    before = column(browser, 1)
    assert before[3] == "does not occur"
    scores = sorted(float(text) for text in before if text != "does not occur")
    head = browser.find_elements("css selector", "#classes thead button")
    head[1].click()
    assert column(browser, 1) == [f"{score:.3f}" for score in reversed(scores)] + ["does not occur"]
    head[1].click()
    assert column(browser, 1) == [f"{score:.3f}" for score in scores] + ["does not occur"]
    heads = browser.find_elements("css selector", "#classes thead th")
    assert heads[1].get_attribute("aria-sort") == "ascending"
    head[0].click()
    names = column(browser, 0)
    assert [name for name in names if name.startswith("class")] == sorted(NAMES[1:11])
    assert heads[1].get_attribute("aria-sort") is None


@pytest.mark.parametrize("press", ["click", "key"])
def test_a_picture_is_enlarged(browser, show, press):
    show()
    picture = browser.find_element("css selector", ".strip img")
    if press == "click":
        picture.click()
    else:
        picture.send_keys("\n")
    is_open = "return document.getElementById('zoom').open"
    assert browser.execute_script(is_open)
    enlarged = browser.find_element("css selector", "#zoom img")
    assert enlarged.get_attribute("src") == picture.get_attribute("src")
    enlarged.click()
    assert not browser.execute_script(is_open)


def test_the_values_of_a_chart_appear_on_hover(browser, show):
    show(epochs=4)
    probe = browser.find_elements("css selector", "#curves .probe")[2]
    text = probe.find_element("tag name", "text")
    assert text.value_of_css_property("visibility") == "hidden"
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", probe)
    target = probe.find_element("tag name", "rect")
    webdriver.ActionChains(browser).move_to_element(target).perform()
    assert text.value_of_css_property("visibility") == "visible"
    assert text.get_attribute("textContent") == "epoch 3 · training 0.3333 · validation 0.4"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_on_its_ground(browser, show, scheme):
    """WCAG 2 asks for 4.5 to 1."""
    show(scheme=scheme)
    script = """
      const color = (name, of) =>
        getComputedStyle(document.querySelector(of))[name].match(/[\\d.]+/g).map(Number);
      const ground = color('backgroundColor', '.card');
      return ['.lead', '.card', '.soft', '.first .big', '.orange', '.green', '.grey'].map(
        (of) => [color('color', of), ground]);
    """
    for text, ground in browser.execute_script(script):
        light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5 - 1e-9
        assert (luminance(ground) > 0.5) == (scheme == "light")


def luminance(color: list[float]) -> float:
    parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
