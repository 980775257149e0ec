"""The page of a survey in a real browser: of one image and of many, wide and narrow."""

import json
from pathlib import Path

import numpy as np
import pytest
from page_browser import browser, look_as

from truemask.analysis.survey import survey
from truemask.analysis.survey_page import write_page
from truemask.analysis.survey_pictures import read_pictures
from truemask.datasets.folder import folder

__all__ = ["browser"]
CLASSES = ["background", "a class whose name is long and goes on and on and on", "w" * 40, "none"]


def page_of(root: Path, images: int) -> Path:
    from PIL import Image

    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for index in range(images):
        ids = np.zeros((20, 30), np.uint8)
        ids[10:] = 1
        ids[2:5, index % 20 : index % 20 + 4] = 2
        pixels = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{index:04d}.png")
        Image.fromarray(ids).save(root / "masks" / f"{index:04d}.png")
    (root / "classes.json").write_text(json.dumps(CLASSES))
    parts = folder(root)
    result = survey(parts, name="x", processes=1)
    write_page(result, read_pictures(parts, result), path=root / "page.html")
    return root / "page.html"


@pytest.mark.parametrize("images", [1, 60])
def test_it_fits_and_logs_nothing_whatever_there_is(browser, tmp_path: Path, images: int) -> None:
    page = page_of(tmp_path / "data", images)
    for width, scheme in ((390, "light"), (1280, "dark")):
        look_as(browser, width=width, scheme=scheme)
        browser.get(page.as_uri())
        script = (
            "return [document.documentElement.scrollWidth, document.querySelectorAll('h2').length]"
        )
        seen, sections = browser.execute_script(script)
        assert seen == width
        assert sections >= 8
        assert browser.get_log("browser") == []
    heads = browser.execute_script(
        "return [...document.querySelectorAll('#symmetry dt')].map((one) => one.textContent)"
    )
    assert heads == ["Upside down", "Mirrored", "Upright to level edges", "Told by colour"]


def test_images_smaller_than_the_grid_leave_no_stripes(browser, tmp_path: Path) -> None:
    page = page_of(tmp_path / "data", 20)
    look_as(browser, width=1280)
    browser.get(page.as_uri())
    # Above the middle all is background but where an object lies: no dark row between bright ones.
    script = """
      const image = document.querySelector('#places .maps img');
      const canvas = document.createElement('canvas');
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
      const context = canvas.getContext('2d');
      context.drawImage(image, 0, 0);
      const column = context.getImageData(image.naturalWidth - 2, 0, 1, image.naturalHeight).data;
      return [...Array(image.naturalHeight).keys()].map((row) => column[4 * row]);
    """
    reds = browser.execute_script(script)
    upper = reds[: len(reds) * 9 // 20]
    assert min(upper) > 150  # yellow: always the background
