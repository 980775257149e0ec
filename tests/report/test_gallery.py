"""Galleries in a real browser: thousands of images, drawn as they are seen, flipped by keys."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from page_browser import browser, look_as, webdriver

from truemask.report import pages, pictures
from truemask.report.gallery import GalleryItem, embedded_json, gallery_content
from truemask.report.pictures import Quality

__all__ = ["browser"]
KEYS = webdriver.Keys
TEMPLATE = """{% extends "page.html" %}{% from "macros.html" import gallery %}
{% block title %}Gallery{% endblock %}
{% block body %}<h1>Gallery</h1>{{ gallery(content, order) }}{% endblock %}"""


def items(count: int) -> list[GalleryItem]:
    rng = np.random.default_rng(0)
    photo, truth = (
        [pictures.photo(rng.integers(0, 256, (h, 60, 3), dtype=np.uint8), Quality(60, 60))
         for h in (40, 80)][k] for k in (0, 1)
    )  # fmt: skip
    return [
        GalleryItem(
            name=f"image_{i}.png" if i else "</script><script>hacked=1</script>",
            pictures=(("Image", photo), ("Label", truth)),
            facts={"score": None if i == 2 else (i * 7919) % count / count, "scene": f"s{i % 3}"},
            note=f"note {i}",
        )
        for i in range(count)
    ]


@pytest.fixture
def show(browser, tmp_path):
    def show(count: int, *, order: str = "", width: int = 1280) -> Path:
        look_as(browser, width=width)
        path = tmp_path / "page.html"
        script = pages._script()
        template = pages._environment().from_string(TEMPLATE)
        path.write_text(
            template.render(content=gallery_content(items(count)), order=order, **script)
        )
        browser.get_log("browser")
        browser.get(path.as_uri())
        return path

    return show


def cards(browser) -> list[str]:
    script = "return [...document.querySelectorAll('.shot b')].map((name) => name.textContent)"
    return browser.execute_script(script)


def said(browser) -> str:
    return browser.find_element("css selector", "[data-said]").text


def test_five_thousand_images_open_at_once_and_only_some_are_drawn(browser, show):
    path = show(5000)
    assert said(browser) == "5,000 images"
    assert 0 < len(cards(browser)) < 1000
    assert path.stat().st_size < 30_000_000
    assert browser.get_log("browser") == []
    assert browser.execute_script("return typeof window.hacked") == "undefined"
    before = len(cards(browser))
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    deadline = time.monotonic() + 10
    while len(cards(browser)) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(cards(browser)) > before


def test_cards_are_found_chosen_and_ordered(browser, show):
    show(50, order="-score")
    found = items(50)
    scores = {item.name: item.facts["score"] for item in found}
    falling = sorted((n for n in scores if scores[n] is not None), key=lambda n: -scores[n])
    assert cards(browser) == [*falling, "image_2.png"]
    browser.find_element("css selector", "[data-choose=scene]").send_keys("s1")
    assert said(browser) == "17 of 50 images"
    assert {int(name[6:-4]) % 3 for name in cards(browser)} == {1}
    browser.find_element("css selector", "[data-find]").send_keys("IMAGE_4")
    assert set(cards(browser)) == {"image_4.png", "image_40.png", "image_43.png", "image_46.png",
                                   "image_49.png"}  # fmt: skip


def test_the_viewer_flips_by_keys(browser, show):
    show(7)
    browser.find_elements("css selector", ".shot")[1].send_keys(KEYS.ENTER)
    name = browser.find_element("css selector", "[data-name]")
    assert name.text == "image_1.png"
    viewer = browser.find_element("css selector", ".viewer")

    def press(key: str) -> None:
        webdriver.ActionChains(browser).send_keys(key).perform()

    press(KEYS.ARROW_RIGHT)
    assert name.text == "image_2.png"
    assert "score\n–" in browser.find_element("css selector", "[data-facts]").text
    assert browser.find_element("css selector", "[data-note]").text == "note 2"
    press(KEYS.END)
    press(KEYS.ARROW_RIGHT)
    assert name.text == "image_6.png"
    assert len(viewer.find_elements("css selector", "[data-views] img")) == 2
    press("2")
    shown = viewer.find_elements("css selector", "[data-views] img")
    assert [image.get_attribute("alt") for image in shown] == ["Label of image_6.png"]
    press("0")
    assert len(viewer.find_elements("css selector", "[data-views] img")) == 2
    press(KEYS.ESCAPE)
    focused = "return document.activeElement.textContent"
    deadline = time.monotonic() + 10  # the browser tells of the closing in its own time
    while not browser.execute_script(focused).startswith("image_6"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not viewer.is_displayed()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("count", [1, 30])
def test_the_page_never_scrolls_sideways(browser, show, width, count):
    show(count, width=width)
    wide = "return document.documentElement.scrollWidth"
    assert browser.execute_script(wide) == width
    browser.find_element("css selector", ".shot").click()
    fits = "const v = document.querySelector('.viewer'); return [v.scrollWidth, v.clientWidth]"
    scrolled, client = browser.execute_script(fits)
    assert scrolled == client
    assert browser.execute_script(wide) == width


def test_an_empty_gallery_is_a_sentence(browser, show):
    show(0)
    assert cards(browser) == []
    assert browser.get_log("browser") == []


def test_json_in_a_page_is_the_same_value_and_ends_no_element():
    value = ["</script>", "<!--", "a\u2028b", 1.5, None]
    text = embedded_json(value)
    assert "<" not in text
    assert json.loads(text) == value


def test_items_of_different_facts_are_refused():
    one, other = items(2)
    with pytest.raises(ValueError, match="same facts"):
        gallery_content([one, GalleryItem(name="x", pictures=other.pictures)])
    with pytest.raises(ValueError, match="needs a picture"):
        gallery_content([GalleryItem(name="x", pictures=())])
