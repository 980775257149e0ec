"""The page of an explanation in a real browser: wide and narrow, the film by button and keys."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from page_browser import browser, look_as, webdriver
from PIL import Image
from torchvision import tv_tensors

from truemask.analysis import explain_summary as summary
from truemask.analysis import explain_words as words
from truemask.analysis.explain_page import _said, page_of
from truemask.analysis.explain_pictures import Album, marked
from truemask.analysis.explain_tally import Tally
from truemask.analysis.explanation import Explanation, Frame
from truemask.bundle import Bundle
from truemask.datasets.sample import Sample
from truemask.evaluation import evaluate
from truemask.images import ImageSpec
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet
from truemask.report.pictures import Quality
from truemask.run_pictures import Course

__all__ = ["browser"]
KEYS = webdriver.Keys
HOSTILE = "<script>hacked=1</script>"


class Scenes:
    """Noise with a few rectangles, an ignored rim, and names that would be code."""

    def __init__(self, labels, count, void):
        self.labels, self.count, self.void = labels, count, void
        self.images = ImageSpec(mean=(0.5,) * 3, std=(0.2,) * 3)
        self.names = [f"{HOSTILE}-{i:02d}" for i in range(count)]

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        mask = np.zeros((40, 56), dtype=np.uint8)
        for _ in range(5):
            top, left = rng.integers(36), rng.integers(50)
            mask[top : top + 12, left : left + 14] = rng.integers(self.labels.num_classes)
        mask[:, : 56 if self.void else 3] = 255
        return Sample(
            image=tv_tensors.Image(
                torch.from_numpy(rng.integers(0, 256, (3, 40, 56), dtype=np.uint8))
            ),
            mask=tv_tensors.Mask(torch.from_numpy(mask)),
            name=self.names[index],
            attributes={"scene": ("city", "field")[index % 2]},
        )


def explanation(*, names, images, path, temperatures=(1.0, 1.4), void=False) -> str:
    """The page of an untrained attention U-Net."""
    torch.manual_seed(0)
    labels = LabelMap(names=names, values={i: i for i in range(len(names))})
    data = Scenes(labels, images, void)
    network = UNet(in_channels=3, out_channels=labels.num_logits, widths=(4, 8, 8), attention=True)
    model = Segmenter(network=network, images=data.images)
    bundle = Bundle(model=model, labels=labels, network={}, info={})
    tally = Tally(labels=labels, temperatures=temperatures)
    evaluation = evaluate(model, data, labels=labels, observe=tally)
    scores = evaluation.result()
    confusions = summary.confusions(evaluation)
    confused: dict[str, list[int]] = {}
    for place, item in enumerate(confusions):
        for image in item.images:
            confused.setdefault(image.name, []).append(place)
    album = Album(
        bundle=bundle,
        confusions=[(names.index(c.truth), names.index(c.prediction)) for c in confusions],
        confused=confused,
        attended=data.names[:2],
    )
    evaluate(model, data, labels=labels, observe=album)
    plain, warm = (summary.calibration(tally, place) for place in range(2))
    borders, sizes = summary.borders(tally), summary.sizes(tally)
    positions = summary.positions(tally)
    course = Course(
        image=np.zeros((160, 500, 3), np.uint8),
        truth=np.zeros((160, 500, 3), np.uint8),
        steps={step: np.full((160, 500, 3), step, np.uint8) for step in (10, 20, 30, 40)},
    )
    found = Explanation(
        run=str(path),
        part="test",
        images=images,
        of=images,
        seed=None,
        classes=list(names),
        said={
            "calibration": words.calibration_words(plain, warm),
            "confusions": words.confusion_words(confusions, scores),
            "borders": words.border_words(borders),
            "sizes": words.size_words(sizes),
            "positions": words.position_words(positions),
            "attributes": words.attribute_words(scores),
            "attention": words.attention_words(album.gates()),
        },
        notes=["A note."],
        scores=scores,
        calibration=plain,
        calibrated=warm,
        fit=None,
        borders=borders,
        sizes=sizes,
        sizes_per_class=summary.sizes_per_class(tally),
        positions=positions,
        confusions=confusions,
        attention=album.gates(),
        shown=list(album.of_attention),
        frames=[Frame(step=step, epoch=step // 10) for step in course.steps],
        page="",
    )
    return page_of(found, album=album, course=course, labels=labels, asked=False)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    made = {
        "classes": explanation(names=("sky", HOSTILE, "a $long$ name " * 6), images=8, path=root),
        "one": explanation(names=("background", "crack"), images=1, path=root),
        "void": explanation(names=("sky", "road", "tree"), images=1, path=root, void=True),
    }
    for name, page in made.items():
        (root / f"{name}.html").write_text(page, encoding="utf-8")
    return root


def errors(driver):
    return [entry["message"] for entry in driver.get_log("browser")]


@pytest.mark.parametrize("name", ["classes", "one", "void"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_wide_and_narrow_and_runs_nothing_foreign(pages, browser, name, width):
    look_as(browser, width=width, scheme="dark" if width == 390 else "light")
    browser.get((pages / f"{name}.html").as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return window.hacked") is None
    assert errors(browser) == []
    broken = (
        "return [...document.images].filter(i => i.src && i.complete && !i.naturalWidth).length"
    )
    assert browser.execute_script(broken) == 0
    shown = browser.find_elements("css selector", ".drawing .night" if width == 390 else ".day")
    assert shown
    assert all(image.is_displayed() for image in shown)


def film(driver):
    screen, slider, play, said = (
        driver.find_element("css selector", f".film [data-{name}]")
        for name in ("screen", "slider", "play", "said")
    )
    return screen, slider, play, said


def test_the_film_is_stepped_by_keys_and_stands_still_without_motion(pages, browser):
    look_as(browser, width=1280)  # asks for reduced motion
    browser.get((pages / "classes.html").as_uri())
    screen, slider, play, said = film(browser)
    frames = [
        image.get_attribute("src")
        for image in browser.find_elements("css selector", "[data-frame]")
    ]
    assert len(set(frames)) == 4
    browser.execute_script("arguments[0].scrollIntoView()", screen)
    assert said.text == "epoch 5, step 40"
    slider.send_keys(KEYS.ARROW_LEFT)
    assert screen.get_attribute("src") == frames[2]
    slider.send_keys(KEYS.HOME)
    assert (screen.get_attribute("src"), said.text) == (frames[0], "epoch 2, step 10")
    assert slider.get_attribute("aria-valuetext") == said.text
    slider.send_keys(KEYS.END)
    assert screen.get_attribute("src") == frames[3]
    assert play.text == "Play"
    play.send_keys(KEYS.ENTER)
    assert (play.text, screen.get_attribute("src")) == ("Pause", frames[0])
    play.send_keys(KEYS.ENTER)
    assert play.text == "Play"


def test_the_film_moves_by_itself_once_it_is_seen(pages, browser):
    from selenium.webdriver.support.ui import WebDriverWait  # present where `browser` is

    look_as(browser, width=1280)
    media = {"features": [{"name": "prefers-reduced-motion", "value": "no-preference"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get((pages / "classes.html").as_uri())
    screen, _, play, said = film(browser)
    assert play.text == "Play"
    browser.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", screen
    )
    wait = WebDriverWait(browser, 10)
    wait.until(lambda _: play.text == "Pause")
    wait.until(lambda _: said.text == "epoch 5, step 40" and play.text == "Play")


def test_every_example_opens_with_its_layers(pages, browser):
    look_as(browser, width=1280)
    browser.get((pages / "classes.html").as_uri())
    cards = browser.find_elements("css selector", ".gallery .shot")
    assert cards
    cards[0].send_keys(KEYS.ENTER)
    viewer = browser.find_element("css selector", "dialog.viewer")
    assert "taken for" in viewer.text
    assert len(viewer.find_elements("css selector", "figure img")) == 3


def test_a_single_confused_pixel_is_seen_in_a_small_picture():
    image = np.full((400, 600, 3), 90, np.uint8)
    where = np.zeros((400, 600), bool)
    where[123, 345] = True
    picture = marked(image, where, Quality(60, 90))
    assert (picture.width, picture.height) == (60, 40)
    data = io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))
    pixels = np.asarray(Image.open(data).convert("RGB")).astype(int)
    redness = pixels[..., 0] - pixels[..., 2]
    assert np.unravel_index(np.argmax(redness), redness.shape) == (12, 34)
    assert redness.max() > 150
    assert np.median(redness) < 5


def test_frames_without_an_epoch_have_their_step():
    frame = Frame(step=1200, epoch=None)
    assert _said(frame) == "after step 1,200"
    assert _said(replace(frame, epoch=0)) == "epoch 1, step 1,200"
