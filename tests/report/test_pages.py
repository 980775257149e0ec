"""The report as a file: what stands in it, and that nothing gets out of it or into it."""

import base64
import io
import json
import re

import numpy as np
import pytest
from jinja2 import UndefinedError
from page_parser import Page
from PIL import Image

from truemask.checks.finding import Picture
from truemask.metrics.boundary import MULTIPLES, BoundaryCounts, boundary_counts
from truemask.metrics.edges import EdgeCounts, edge_counts
from truemask.report.pages import MOST_BYTES, render_page, render_report

SECTIONS = ("data", "samples", "curves", "classes", "confusion", "images", "settings")
HOSTILE = (
    "<script>hacked=1</script>",
    '"><img src=x onerror="hacked=1">',
    "' onmouseover='hacked=1",
    "{{ 7 * 7777 }}",
    "</style></pre></title><b>bold</b>",
)
TWELVE = tuple(f"class {i} with a rather long name" for i in range(12))


@pytest.fixture
def page(make_run):
    return lambda **options: Page(render_report(make_run(**options)))


@pytest.mark.parametrize(
    "options", [{}, {"names": TWELVE, "epochs": 200, "subgroups": True, "absent": 4}]
)
def test_a_page_is_sound_html_in_the_promised_order(page, options):
    made = page(**options)
    assert made.unbalanced == []
    sections = [found["id"] for tag, found in made.tags if tag == "section"]
    expected = [*SECTIONS[:4], *(["subgroups"] if "subgroups" in options else []), *SECTIONS[4:]]
    assert sections == expected
    linked = [address[1:] for address in made.addresses if address.startswith("#")]
    assert linked == expected
    assert made.count("h1") == 1
    assert all(found.get("alt") for tag, found in made.tags if tag == "img" and "src" in found)


def test_the_head_says_what_was_trained_and_how_well(make_run):
    run = make_run(epochs=28)
    text = Page(render_report(run)).texts["head"]
    sentences = (
        "roads U-Net, 7.81 M parameters, trained on 367 images of 480 × 360 pixels, 2 classes, "
        "20 min on CPU. Best epoch: 15 of 28. Training ended: the time given is used."
    )
    assert sentences in text
    test = run.results["test"]
    low, high = test.intervals["iou"]
    assert f"Test IoU of “crack” {test.iou:.3f}" in text
    assert f"95 % interval {low:.3f} to {high:.3f}" in text
    assert f"Dice {test.dice:.3f}" in text
    assert f"Pixel accuracy {test.pixel_accuracy:.3f}" in text
    assert "no test part" not in text


def test_without_a_test_part_the_page_says_that_it_shows_validation(page):
    text = page(parts=("validation",)).texts["head"]
    assert "Validation IoU of “crack”" in text
    assert "This data has no test part." in text


def test_the_tables_hold_the_numbers_of_the_results(make_run):
    run = make_run(names=TWELVE, absent=4, subgroups=True)
    made = Page(render_report(run))
    test = run.results["test"]
    rows = {row[0]: row[1:] for row in made.rows if len(row) == 7}
    for name in TWELVE:
        if name == TWELVE[4]:
            assert [name, "does not occur"] in made.rows
            continue
        low, high = test.intervals[f"iou_per_class.{name}"]
        iou, interval, dice, precision, recall, f1 = rows[name]
        assert iou == f"{test.iou_per_class[name]:.3f}"
        assert interval.endswith(f"{low:.3f} to {high:.3f}")
        assert dice == f1 == f"{test.dice_per_class[name]:.3f}"
        assert precision == f"{test.precision_per_class[name]:.3f}"
        assert recall == f"{test.recall_per_class[name]:.3f}"
    group = test.subgroups["light"]["dusk"]
    assert any(row[:3] == ["dusk", "40", f"{group.iou:.3f}"] for row in made.rows)
    weights = {row[0]: row[2] for row in made.rows if len(row) == 3 and row[0] in TWELVE}
    assert weights == {name: f"{1.5 + i:g}" for i, name in enumerate(TWELVE)}


def test_nothing_is_asked_of_the_network(page):
    made = page(names=TWELVE)
    assert [a for a in made.addresses if not a.startswith(("data:", "#"))] == []
    assert "http" not in made.source.replace("http-equiv", "")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", made.source)


def test_hostile_names_stay_text(make_run):
    run = make_run(names=HOSTILE, subgroups=True)
    text = HOSTILE[0] + HOSTILE[1]
    run.write_config(
        {"name": text, "model": {"_target_": text}, "loss": {"_target_": text, text: [text]}}
    )
    training = {"notes": [text], "stopped": text, "class_shares": {HOSTILE[0]: f"1; {text}"}}
    run.write_environment({text: text, "device": text, "command_line": text, "training": training})
    run.write_findings([{"level": text, "code": text, "message": text, "evidence": {text: [text]}}])
    made = Page(render_report(run))
    assert made.unbalanced == []
    assert made.count("script") == 1
    assert "<b>bold" not in made.source
    handlers = [key for _, found in made.tags for key in found if key.startswith("on")]
    assert handlers == []
    assert {found.get("src") for tag, found in made.tags if tag == "img"} & {"x"} == set()
    for name in HOSTILE:
        assert name in made.texts["classes"]
    assert "54439" not in made.source
    assert text in made.texts["findings"]


def test_the_policy_allows_the_pages_own_script_only(page):
    made = page()
    policy = next(f["content"] for tag, f in made.tags if tag == "meta" and "http-equiv" in f)
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='$", policy)


def test_a_page_of_noise_stays_small(make_run):
    """Noise does not compress: at full size these pictures alone would pass the limit."""
    run = make_run(names=TWELVE, side=640, shown=4)
    made = Page(render_report(run))
    assert made.size < MOST_BYTES
    assert made.count("img") == 4 * 2 + 2 * 4 * 4 + 1  # and the frame for enlarged ones


def test_255_classes_and_much_text_stay_small(make_run):
    run = make_run(names=tuple(f"class {i}" for i in range(255)))
    run.write_config({"notes": ["long " * 1000] * 100})
    assert Page(render_report(run)).size < MOST_BYTES


def test_a_run_that_was_killed_shows_what_it_has(make_run):
    run = make_run()
    gone = {
        "results.json": {"classes", "confusion"},
        "samples/samples.json": {"samples", "images"},
        "history.csv": {"curves"},
        "labels.json": set(),
        "environment.json": set(),
    }
    expected = {"head", *SECTIONS}
    for name, sections in gone.items():
        (run.path / name).unlink()
        expected -= sections
        made = Page(render_report(run))
        assert made.unbalanced == []
        assert made.texts.keys() == expected
        assert "This run is not complete." in made.texts["head"]
    assert "roads" in made.texts["head"]
    assert "truemask.models.unet.UNet" in made.texts["settings"]


@pytest.mark.parametrize(
    "file", ["results.json", "history.csv", "environment.json", "labels.json", "findings.json"]
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(make_run, file):
    run = make_run()
    (run.path / file).write_text(
        "epoch\nnever\n" if file == "history.csv" else "{", encoding="utf-8"
    )
    made = Page(render_report(run))
    assert file in made.texts["head"]
    assert "data" in made.texts


def test_findings_are_shown_and_announced(make_run):
    run = make_run()
    run.write_findings(
        [
            {
                "code": "TM101",
                "level": "error",
                "message": "Two files are equal.",
                "remedy": "Drop one.",
            }
        ]
    )
    made = Page(render_report(run))
    assert "1 finding of the checks" in made.texts["head"]
    assert "error TM101 Two files are equal. Remedy: Drop one." in made.texts["findings"]


def test_the_command_line_is_quoted_for_a_shell(page):
    assert "truemask train 'my data'" in page().texts["settings"]


def test_a_template_that_lacks_a_value_is_an_error():
    """So that a mistyped name in a template cannot leave a silent gap."""
    with pytest.raises(UndefinedError, match="undefined"):
        render_page("report.html", {})


def test_the_pictures_of_a_finding_stand_beside_it_with_their_captions(make_run):
    run = make_run(shown=0)
    colors = [(200, 30, 30), (30, 200, 30)]
    shown = [
        Picture(caption=f"{HOSTILE[1]} {i}", pixels=np.full((30, 300, 3), color, np.uint8))
        for i, color in enumerate(colors)
    ]
    finding = {"code": "TM202", "level": "error", "message": "Two are alike."}
    run.write_findings([{"code": "TM205", "level": "note"}, {**finding, "pictures": shown}])
    made = Page(render_report(run))
    assert made.unbalanced == []
    images = [found for tag, found in made.tags if tag == "img" and "src" in found]
    assert [found["alt"] for found in images] == [picture.caption for picture in shown]
    for found, color in zip(images, colors, strict=True):
        assert (found["width"], found["height"]) == ("300", "30")
        content = base64.b64decode(found["src"].partition("base64,")[2])
        with Image.open(io.BytesIO(content)) as picture:
            mean = np.asarray(picture.convert("RGB")).mean((0, 1))
        assert np.abs(mean - color).max() < 8
    note, error = made.source.split('<article class="finding')[1:]
    assert "<figure>" not in note
    assert error.count("<figure>") == 2
    assert all(picture.caption in made.texts["findings"] for picture in shown)


def test_a_picture_of_a_finding_that_is_damaged_is_named_and_the_finding_is_shown(make_run):
    run = make_run()
    one = Picture(caption="one", pixels=np.zeros((8, 8, 3), np.uint8))
    run.write_findings([{"level": "error", "message": "Alike.", "pictures": [one]}])
    (file,) = (run.path / "findings").glob("*.png")
    file.write_bytes(b"nothing")
    made = Page(render_report(run))
    assert file.name in made.texts["head"]
    assert "Alike." in made.texts["findings"]
    assert made.unbalanced == []


def test_a_page_shows_so_many_pictures_of_findings_and_no_more(make_run):
    run = make_run(shown=0)
    picture = Picture(caption="grey", pixels=np.full((8, 16, 3), 99, np.uint8))
    run.write_findings([{"pictures": [picture] * 9}] * 30)
    made = Page(render_report(run))
    assert made.source.count("<figcaption>grey") == 4 * 20


def outlines(run, name: str = "test") -> tuple:
    """Scores of outlines as `evaluate` leaves them, of a square that is found a pixel too low."""
    truth, ids = np.zeros((2, 24, 24), dtype=np.uint8)
    truth[6:16, 6:16], ids[7:17, 6:16] = 1, 1
    of_class = boundary_counts(
        truth, ids, num_classes=2, tolerances=[0.02 * m for m in MULTIPLES], ignore_index=255
    )
    boundaries = BoundaryCounts(
        names=["a"], classes=("background", "crack"), tolerance=0.02, counts=of_class[None]
    )
    drawn = edge_counts(ids.astype(float), (truth == 1)[None], tolerance=0.02)
    edges = EdgeCounts(names=["a"], counts=drawn[None], tolerance=0.02)
    for kind, counts in (("boundaries", boundaries), ("edges", edges)):
        run.write_evaluation(f"{kind}-{name}", counts.result(), save=counts.save)
    return boundaries.result(), edges.result()


def test_outlines_that_were_scored_stand_on_the_page(make_run):
    run = make_run()
    boundaries, edges = outlines(run)
    outlines(run, "test-on-photos-0123ab")
    made = Page(render_report(run))
    assert made.unbalanced == []
    text = made.texts["boundaries"]
    assert "test of photos-0123ab 1 image;" in text
    assert "within 2.00 % of the image's diagonal" in text
    assert f"crack {boundaries.f1:.3f}" in text
    assert f"ODS {edges.ods:.3f}" in made.texts["edges"]
    assert "#boundaries" in made.addresses
    assert "#edges" in made.addresses
    # Other weights take them away.
    run.discard_results()
    assert not list(run.path.glob("evaluation-*.json"))
    assert "boundaries" not in Page(render_report(run)).texts


@pytest.mark.parametrize("text", ["{", '{"images": 1}', None])
def test_damaged_outlines_are_said_and_the_rest_is_shown(make_run, text):
    run = make_run()
    outlines(run)
    for kind, key in (("boundaries", "f1_per_class"), ("edges", "precision")):
        file = run.path / f"evaluation-{kind}-test.json"
        hostile = json.loads(file.read_text()) | {key: HOSTILE[0]}
        file.write_text(json.dumps(hostile) if text is None else text)
    made = Page(render_report(run))
    for kind in ("boundaries", "edges"):
        assert f"evaluation-{kind}-test.json" in made.texts["head"]
    assert "boundaries" not in made.texts
    assert "classes" in made.texts
