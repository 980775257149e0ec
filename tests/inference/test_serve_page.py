"""The page of the server in a real browser: a photo in, its mask on a canvas, and out again."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs `pip install truemask[serve]`")
httpx = pytest.importorskip("httpx", reason="needs `pip install httpx`")

from page_browser import browser, look_as, webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402
from serve_material import NAMES, encoded, pixels, served, serving, small_bundle  # noqa: E402
from test_serve import expected  # noqa: E402

from truemask.bundle import Inputs  # noqa: E402
from truemask.checks.inputs import describe_images  # noqa: E402
from truemask.inference.engine import TorchEngine  # noqa: E402
from truemask.inference.serve_queue import ServedModel  # noqa: E402

__all__ = ["browser"]

CANVAS = """
  const canvas = document.querySelectorAll('canvas')[arguments[0]];
  const { width, height } = canvas;
  return [width, height, ...canvas.getContext('2d').getImageData(0, 0, width, height).data];
"""


@pytest.fixture(scope="module")
def one():
    with serving(served()) as address:
        yield address


@pytest.fixture(scope="module")
def two():
    with serving(served("first"), served("second", seed=1), bytes=50_000) as address:
        yield address


@pytest.fixture(autouse=True)
def _window(browser) -> None:
    look_as(browser, width=1280)


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(pixels(60, 90)))
    return path


def upload(browser, path: Path) -> None:
    before = browser.execute_script("return document.querySelectorAll('canvas').length")
    browser.find_element(By.ID, "file").send_keys(str(path))
    until(browser, "return document.querySelectorAll('canvas').length > 0", before=before)
    until(browser, "return /seconds/.test(document.getElementById('status').textContent)")


def until(browser, script: str, **_) -> None:
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(script))


def canvas(browser, at: int = 0) -> np.ndarray:
    width, height, *values = browser.execute_script(CANVAS, at)
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def slide(browser, value: int) -> None:
    script = """
      const slider = document.getElementById('opacity');
      slider.value = arguments[0];
      slider.dispatchEvent(new Event('input'));
    """
    browser.execute_script(script, value)


def test_a_photo_is_drawn_with_the_mask_over_it(browser, one, photo):
    browser.get(one)
    upload(browser, photo)
    image, bundle = pixels(60, 90), small_bundle()
    ids = expected(bundle, image)
    shares = np.bincount(ids.ravel(), minlength=3) / ids.size
    said = {
        row.find_element(By.TAG_NAME, "b").text: row.find_element(By.CLASS_NAME, "share").text
        for row in browser.find_elements(By.CSS_SELECTOR, ".classes li")
    }
    assert set(said) == set(NAMES)
    for name, share in zip(NAMES, shares, strict=True):
        assert (said[name] == "none") == (share == 0)
        assert float(said[name].replace("none", "0").removesuffix(" %")) == pytest.approx(
            100 * share, abs=0.06
        )
    slide(browser, 0)
    np.testing.assert_array_equal(canvas(browser), image)
    slide(browser, 100)
    shown = canvas(browser)
    road = ids == 1
    np.testing.assert_array_equal(shown[road], np.tile(bundle.labels.colors[1], (road.sum(), 1)))
    # A class called "background" is not laid over the photo.
    np.testing.assert_array_equal(shown[ids == 0], image[ids == 0])


def test_classes_are_switched_off_and_on(browser, one, photo):
    browser.get(one)
    upload(browser, photo)
    image, ids = pixels(60, 90), expected(small_bundle(), pixels(60, 90))
    slide(browser, 100)
    row = browser.find_element(By.CSS_SELECTOR, f".classes input[data-kind='{NAMES[1]}']")
    assert row.is_selected()
    row.click()
    np.testing.assert_array_equal(canvas(browser)[ids == 1], image[ids == 1])
    row.send_keys(Keys.SPACE)
    assert (canvas(browser)[ids == 1] == small_bundle().labels.colors[1]).all()
    browser.find_element(By.ID, "none").click()
    np.testing.assert_array_equal(canvas(browser), image)
    browser.find_element(By.ID, "all").click()
    np.testing.assert_array_equal(canvas(browser), small_bundle().labels.colorize(ids))


def test_mask_and_overlay_are_downloaded(browser, one, photo, tmp_path):
    folder = tmp_path / "down"
    folder.mkdir()
    allow = {"behavior": "allow", "downloadPath": str(folder)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", allow)
    browser.get(one)
    upload(browser, photo)
    slide(browser, 0)
    for link in (".mask", ".overlay"):
        browser.find_element(By.CSS_SELECTOR, link).click()
    names = ["photo.roads.mask.png", "photo.roads.overlay.png"]
    WebDriverWait(browser, 20).until(
        lambda _: sorted(path.name for path in folder.iterdir()) == names
    )
    image = pixels(60, 90)
    mask = np.asarray(Image.open(folder / names[0]))
    np.testing.assert_array_equal(mask, expected(small_bundle(), image))
    overlay = np.asarray(Image.open(folder / names[1]).convert("RGB"))
    np.testing.assert_array_equal(overlay, image)


def test_two_models_side_by_side(browser, two, photo):
    browser.get(two)
    upload(browser, photo)
    titles = [title.text for title in browser.find_elements(By.CSS_SELECTOR, ".model h2")]
    assert titles == ["first", "second"]
    places = [card.rect for card in browser.find_elements(By.CLASS_NAME, "model")]
    assert places[0]["y"] == places[1]["y"]
    assert places[0]["x"] < places[1]["x"]
    slide(browser, 100)
    image = pixels(60, 90)
    masks = [expected(small_bundle(seed=seed), image) for seed in (0, 1)]
    for at, ids in enumerate(masks):
        assert (canvas(browser, at)[ids == 2] == small_bundle().labels.colors[2]).all()
    agreed = browser.find_element(By.ID, "agree").text
    share = float(agreed.removeprefix("The two models agree on ").split()[0])
    assert share == pytest.approx(100 * (masks[0] == masks[1]).mean(), abs=0.06)
    # A class is switched in both.
    browser.find_element(By.CSS_SELECTOR, f".classes input[data-kind='{NAMES[1]}']").click()
    boxes = browser.find_elements(By.CSS_SELECTOR, f".classes input[data-kind='{NAMES[1]}']")
    assert [box.is_selected() for box in boxes] == [False, False]


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_never_scrolls_sideways(browser, two, photo, width, scheme):
    look_as(browser, width=width, scheme=scheme)
    browser.get(two)
    upload(browser, photo)
    seen = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert seen == [width, width]


def test_everything_is_reached_by_the_keyboard(browser, one, photo):
    browser.get(one)
    upload(browser, photo)
    browser.execute_script("document.activeElement.blur()")
    reached = []
    for _ in range(20):
        webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
        active = browser.switch_to.active_element
        reached.append(active.get_attribute("id") or active.get_attribute("class")
                       or active.get_attribute("data-kind") or active.tag_name)  # fmt: skip
        if active.get_attribute("id") == "opacity":
            before = active.get_attribute("value")
            active.send_keys(Keys.ARROW_RIGHT)
            assert int(active.get_attribute("value")) == int(before) + 1
    wanted = ["file", "camera", "opacity", "all", "none", *NAMES, "way mask", "way overlay"]
    assert [name for name in dict.fromkeys(reached) if name in wanted] != []
    assert set(wanted) <= set(reached)
    assert "capture" not in reached


def test_a_refusal_is_told(browser, two, tmp_path):
    browser.get(two)
    broken, large = tmp_path / "broken.png", tmp_path / "large.png"
    broken.write_bytes(encoded(pixels())[:-400])
    large.write_bytes(bytes(60_000))
    for path, said in ((broken, "truncated or corrupt"), (large, "megabytes")):
        browser.find_element(By.ID, "file").send_keys(str(path))
        until(browser, f"return document.getElementById('problem').textContent.includes('{said}')")
        assert browser.find_element(By.ID, "problem").is_displayed()


def test_a_photo_is_dropped_and_pasted(browser, one):
    script = """
      const bytes = Uint8Array.from(arguments[0]);
      const data = new DataTransfer();
      data.items.add(new File([bytes], 'dropped.png', { type: 'image/png' }));
      const event = arguments[1] === 'drop'
        ? new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })
        : new ClipboardEvent('paste', { clipboardData: data, bubbles: true });
      document.body.dispatchEvent(event);
    """
    for how in ("drop", "paste"):
        browser.get(one)
        browser.execute_script(script, list(encoded(pixels(20, 30))), how)
        until(browser, "return document.querySelectorAll('canvas').length === 1")
        until(browser, "return /30 × 20/.test(document.getElementById('status').textContent)")


def test_a_turned_photo_lies_under_its_mask(browser, one, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(pixels(60, 90), "JPEG", exif=exif, quality=95))
    browser.get(one)
    upload(browser, path)
    slide(browser, 0)
    shown = canvas(browser)
    assert shown.shape == (90, 60, 3)
    upright = np.rot90(np.asarray(Image.open(io.BytesIO(path.read_bytes()))), 3)
    assert np.abs(shown.astype(int) - upright).mean() < 3


def test_nothing_else_is_loaded_and_nothing_is_logged(browser, one, photo):
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(one)
    upload(browser, photo)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    asked = {params["request"]["url"].split("?")[0] for params in sent}
    local = {url for url in asked if not url.startswith(("data:", "blob:"))}
    assert local == {f"{one}/", f"{one}/predict"}
    assert browser.get_log("browser") == []


def test_the_policy_allows_the_page_s_own_script_and_no_other(one):
    answer = httpx.get(one)
    policy = dict(part.strip().split(" ", 1) for part in
                  answer.headers["content-security-policy"].split(";"))  # fmt: skip
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].startswith("'sha256-")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert policy["frame-ancestors"] == "'none'"
    assert "<b>road</b>" not in answer.text  # a class's name, which is anybody's text
    assert "http://" not in answer.text
    assert "https://" not in answer.text


def test_the_camera_takes_a_photo(browser, one):
    script = """
      navigator.mediaDevices.getUserMedia = async () => {
        const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 48 });
        const context = canvas.getContext('2d');
        setInterval(() => { context.fillStyle = '#804020'; context.fillRect(0, 0, 64, 48); }, 20);
        return canvas.captureStream(30);
      };
    """
    browser.get(one)
    browser.execute_script(script)
    browser.find_element(By.ID, "camera").click()
    until(browser, "return document.getElementById('video').videoWidth === 64")
    browser.find_element(By.ID, "shoot").click()
    until(browser, "return /64 × 48/.test(document.getElementById('status').textContent)")
    assert not browser.execute_script("return document.getElementById('viewfinder').open")


def test_without_a_camera_the_page_says_so(browser, one):
    browser.get(one)
    browser.find_element(By.ID, "camera").click()
    until(browser, "return !document.getElementById('problem').hidden")
    assert "camera" in browser.find_element(By.ID, "problem").text


def test_a_doubtful_photo_is_marked(browser, tmp_path):
    known = describe_images(pixels(seed=seed) for seed in range(30))
    inputs = Inputs(value=known.to_json(), file=Path("inputs.json"))
    bundle = replace(small_bundle(), inputs=inputs)
    model = ServedModel(name="roads", bundle=bundle, engine=TorchEngine(bundle))
    usual, strange = tmp_path / "usual.png", tmp_path / "strange.png"
    usual.write_bytes(encoded(pixels(seed=3)))
    strange.write_bytes(encoded(np.zeros((300, 400, 3), np.uint8)))
    with serving(model) as address:
        browser.get(address)
        upload(browser, usual)
        assert not browser.find_element(By.CLASS_NAME, "doubt").is_displayed()
        browser.find_element(By.ID, "file").send_keys(str(strange))
        until(browser, "return /400 × 300/.test(document.getElementById('status').textContent)")
        assert "unlike the training images" in browser.find_element(By.CLASS_NAME, "doubt").text


@pytest.mark.parametrize("order", [("colour", "grey"), ("grey", "colour")])
def test_one_model_s_refusal_does_not_hide_the_other_s_mask(browser, tmp_path, order):
    colour, grey = tmp_path / "colour.png", tmp_path / "grey.png"
    colour.write_bytes(encoded(pixels(60, 90)))
    grey.write_bytes(encoded(pixels(50, 70)[..., 0]))
    channels = {"colour": 3, "grey": 1}
    with serving(*(served(name, channels=channels[name]) for name in order)) as address:
        look_as(browser, width=390)
        browser.get(address)
        upload(browser, colour)
        cards = browser.find_elements(By.CLASS_NAME, "model")
        assert [card.find_element(By.TAG_NAME, "h2").text for card in cards] == list(order)
        refused, answered = cards[order.index("grey")], cards[order.index("colour")]
        notice = refused.find_element(By.CLASS_NAME, "notice")
        assert notice.is_displayed()
        assert notice.text.startswith("This photo was not predicted: ")
        assert "colo" in notice.text  # what is wrong: it has colours
        assert refused.find_elements(By.TAG_NAME, "canvas") == []
        assert answered.find_element(By.TAG_NAME, "canvas").is_displayed()
        assert not browser.find_element(By.ID, "problem").is_displayed()
        assert browser.find_element(By.ID, "agree").text == ""
        slide(browser, 0)
        np.testing.assert_array_equal(canvas(browser), pixels(60, 90))
        browser.find_element(By.ID, "all").click()
        slide(browser, 100)
        ids = expected(small_bundle(), pixels(60, 90))
        np.testing.assert_array_equal(canvas(browser), small_bundle().labels.colorize(ids))
        wide = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        assert browser.execute_script(wide) == [390, 390]
        # A photo that both take shows both, and nothing of the refusal.
        browser.find_element(By.ID, "file").send_keys(str(grey))
        until(browser, "return document.querySelectorAll('canvas').length === 2")
        assert "agree on" in browser.find_element(By.ID, "agree").text
        notices = browser.find_elements(By.CSS_SELECTOR, ".model .notice")
        assert not any(each.is_displayed() for each in notices)


def test_of_two_models_it_is_said_which_did_not_answer(browser, two, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(encoded(pixels(60, 90))[:200])
    browser.get(two)
    browser.find_element(By.ID, "file").send_keys(str(broken))
    problem = browser.find_element(By.ID, "problem")
    WebDriverWait(browser, 20).until(lambda _: problem.text)
    assert problem.text.startswith(
        ("This photo was not predicted: first: ", "This photo was not predicted: second: ")
    )
