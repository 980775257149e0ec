"""Auditing labels: statistics with a known answer, and errors that are found."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from truemask.analysis.audit_borders import best_translation, border_steps
from truemask.analysis.audit_calibration import Calibration, Drawn, fit
from truemask.analysis.audit_image import Evidence, assess
from truemask.analysis.audit_mixed import SmallCopy, mixed_up
from truemask.analysis.audit_page import disputed, write_page
from truemask.analysis.audit_pictures import AuditPicture
from truemask.analysis.audit_ranking import THRESHOLD, Scale, rank
from truemask.analysis.audit_regions import regions, surprise
from truemask.analysis.audit_result import audited, csv_text
from truemask.data.marks import RegionMark, read_marks, read_runs
from truemask.labels import LabelMap

LABELS = LabelMap(names=("sky", "road", "car", "tree"), values={0: 0, 1: 1, 2: 2, 3: 3, 255: 255})
SIZES = ((48, 64), (64, 48), (40, 40))


def plain(classes: int = 4) -> Calibration:
    """Of a model that is calibrated as it is."""
    return fit([Drawn(np.zeros((0, classes), np.float32), np.zeros(0, np.int64))])


def scene(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A mask of blobs: what people see."""
    random = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(random.normal(size=(4, *size)), (0, 5, 5))
    return fields.argmax(0).astype(np.uint8)


def logits_of(mask: np.ndarray, seed: int, sure: float = 6.0) -> torch.Tensor:
    """A good model of that mask: sure inside, unsure at borders, with some noise of its own."""
    random = np.random.default_rng(seed)
    shown = ndimage.gaussian_filter(np.eye(4)[mask].astype(np.float32), (1, 1, 0)) * sure
    noise = ndimage.gaussian_filter(random.normal(size=(*mask.shape, 4)), (2, 2, 0)) * 3
    return torch.from_numpy(np.moveaxis(shown + noise, -1, 0).copy()).float()


def drawn_from(probabilities: np.ndarray, seed: int) -> np.ndarray:
    """Labels drawn as the probabilities (n, K) say."""
    random = np.random.default_rng(seed)
    return (random.uniform(size=(len(probabilities), 1)) > probabilities.cumsum(1)).sum(1)


@pytest.mark.parametrize("wanted", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(wanted: float) -> None:
    random = np.random.default_rng(0)
    parts = []
    for seed in range(10):
        logits = random.normal(size=(3000, 4)).astype(np.float32) * 3
        chances = torch.from_numpy(logits / wanted).softmax(1).numpy()
        parts.append(Drawn(logits, np.minimum(drawn_from(chances, seed), 3)))
    found = fit(parts)
    # A fifth of the images, those that fit worst, are left out: a little too sure, by design.
    assert found.temperature == pytest.approx(wanted, rel=0.05)
    # The table of the usual, in bins, costs a little where the temperature alone is right.
    entropy = float(np.mean([_entropy(part.logits / wanted) for part in parts]))
    assert 0.98 * entropy < found.loss_after < 1.15 * entropy


def _entropy(logits: np.ndarray) -> float:
    chances = torch.from_numpy(logits).softmax(1)
    return float(-(chances * chances.log()).sum(1).mean())


def test_images_with_wrong_labels_do_not_move_the_calibration() -> None:
    random = np.random.default_rng(1)
    parts = []
    for seed in range(20):
        logits = random.normal(size=(2000, 4)).astype(np.float32) * 4
        labels = np.minimum(drawn_from(torch.from_numpy(logits).softmax(1).numpy(), seed), 3)
        parts.append(Drawn(logits, labels if seed % 7 else random.integers(0, 4, len(labels))))
    found = fit(parts)
    assert found.temperature == pytest.approx(1.0, rel=0.06)
    # Both losses are of the images that were fitted to: of labels drawn as the model says.
    entropy = float(np.mean([_entropy(part.logits) for part in parts]))
    assert found.loss_before == pytest.approx(entropy, rel=0.05)
    assert found.loss_after == pytest.approx(entropy, rel=0.1)


def test_a_confusion_that_is_usual_is_no_surprise() -> None:
    """The model is sure of road where people say car, in a third of what it calls road."""
    random = np.random.default_rng(2)
    parts = []
    for _ in range(10):
        labels = random.integers(0, 4, 2000)
        says = np.where((labels == 2) & (random.uniform(size=2000) < 0.5), 1, labels)
        parts.append(Drawn((np.eye(4, dtype=np.float32)[says] * 12), labels))
    found = fit(parts)
    road = np.eye(4, dtype=np.float32)[1] * 12
    log = found.log_probabilities(road[:, None])[:, 0]
    assert np.exp(log).sum() == pytest.approx(1, abs=1e-5)
    assert -log[2] < 3 < -log[0], "car under road is usual here, sky is not"


def test_surprise_is_nothing_on_average_where_labels_are_drawn_as_the_model_says() -> None:
    random = np.random.default_rng(3)
    logits = torch.from_numpy(random.normal(size=(4, 200, 200)).astype(np.float32))
    chances = logits.softmax(0).numpy()
    mask = drawn_from(chances.reshape(4, -1).T, 4).reshape(200, 200).astype(np.uint8)
    found = surprise(np.log(chances), mask, np.ones_like(mask, dtype=bool))
    assert abs(found.mean()) < 4 * found.std() / 200


def test_surprise_of_a_sure_model_that_is_contradicted_has_a_closed_form() -> None:
    chances = np.array([0.9, 0.1])[:, None, None] * np.ones((1, 2, 2))
    mask = np.array([[0, 1], [1, 255]], np.uint8)
    found = surprise(np.log(chances).astype(np.float32), mask, mask != 255)
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    wanted = np.array([[-np.log(0.9), -np.log(0.1)], [-np.log(0.1), entropy]]) - entropy
    assert np.allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(("down", "right"), [(2, 0), (-1, 2), (0, 0)])
def test_the_translation_is_that_of_brute_force_and_the_one_that_was_made(down, right) -> None:
    mask = scene(5)
    logs = np.log(logits_of(mask, 6).softmax(0).numpy())
    wrong = np.roll(mask, (-down, -right), (0, 1))
    valid = np.random.default_rng(7).uniform(size=mask.shape) > 0.1
    found = best_translation(logs, wrong, valid)
    assert (found.down, found.right) == (down, right)
    height, width = mask.shape
    scores = {}
    for y in range(-3, 4):
        for x in range(-3, 4):
            total = count = 0.0
            for r in range(max(0, -y), min(height, height - y)):
                for c in range(max(0, -x), min(width, width - x)):
                    if valid[r, c]:
                        total += max(float(logs[wrong[r, c], r + y, c + x]), -8)
                        count += 1
            scores[y, x] = total / count
    assert found.gain == pytest.approx(max(scores.values()) - scores[0, 0], abs=1e-4)


@pytest.mark.parametrize("grown", [2, -2])
def test_a_class_that_is_too_large_or_too_small_is_told_by_its_border(grown: int) -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[20:40, 20:40] = 2
    logs = (torch.eye(4)[torch.from_numpy(mask).long()] * 8).movedim(-1, 0).log_softmax(0)
    wrong = np.zeros_like(mask)
    wrong[20 - grown : 40 + grown, 20 - grown : 40 + grown] = 2
    steps = border_steps(logs.numpy(), wrong, np.ones_like(mask, dtype=bool))
    best = max((step for step in steps if step.label == 2), key=lambda step: step.gain)
    assert best.pixels == -grown
    # Each pixel that changes hands gains log p(right) - log p(wrong), at most 4.
    area = abs((20 + 2 * grown) ** 2 - 20**2)
    assert best.gain * best.border == pytest.approx(area * 4, rel=0.12)


def test_void_is_in_no_region_and_regions_are_of_one_pair() -> None:
    mask, said = scene(8), scene(9)
    mask[10:30, 10:30] = 255
    valid = mask != 255
    found, total = regions(mask, said, np.full(mask.shape, 6.0, np.float32), valid)
    assert total == pytest.approx(2 * (valid & (mask != said)).sum())
    for region in found:
        box = (
            slice(region.top, region.top + region.inside.shape[0]),
            slice(region.left, region.left + region.inside.shape[1]),
        )
        assert set(mask[box][region.inside]) == {region.label}
        assert set(said[box][region.inside]) == {region.prediction}
        assert region.evidence == pytest.approx(2 * region.pixels)


def test_the_scale_of_a_lognormal_distribution_is_its_own() -> None:
    values = np.exp(np.random.default_rng(10).normal(3, 2, 20_000))
    scale = Scale.of(values, least=1e-9)
    assert scale.median == pytest.approx(3, abs=0.1)
    assert scale.deviation == pytest.approx(2, rel=0.03)
    assert scale.score(float(np.exp(7))) == pytest.approx(2, abs=0.1)
    # A fifth of the values being absurd moves it little.
    assert Scale.of(np.where(np.arange(20_000) % 5, values, 1e9), least=1e-9).deviation < 4
    # Where nothing varies, what is tiny stays unsuspicious.
    assert Scale.of([0.0] * 9, least=0.1).score(0.05) == pytest.approx(np.log(1.5) / 0.5)
    assert Scale.of([], least=0.1).score(0.0) == 0


def audit_of(masks: list[np.ndarray], said: list[torch.Tensor]) -> list[Evidence]:
    found = [
        assess(logits, torch.from_numpy(mask), labels=LABELS, calibration=plain(), name=f"{i:03}")
        for i, (mask, logits) in enumerate(zip(masks, said, strict=True))
    ]
    return [one for one in found if one is not None]


@pytest.fixture(scope="module")
def sound() -> tuple[list[np.ndarray], list[torch.Tensor]]:
    """Forty images of mixed sizes, and a model that knows them well."""
    masks = [scene(100 + i, SIZES[i % 3]) for i in range(40)]
    return masks, [logits_of(mask, 300 + i) for i, mask in enumerate(masks)]


def swapped(mask: np.ndarray) -> np.ndarray:
    labelled, _ = ndimage.label(mask == mask[24, 24])
    changed = mask.copy()
    changed[labelled == labelled[24, 24]] = (mask[24, 24] + 1) % 4
    return changed


ERRORS = {
    "swapped class": swapped,
    "moved": lambda mask: np.roll(mask, 2, 1),
    "other mask": lambda mask: scene(999, mask.shape),
}


@pytest.mark.parametrize("kind", list(ERRORS))
def test_injected_errors_come_first_among_images_of_mixed_sizes(sound, kind: str) -> None:
    masks, said = list(sound[0]), sound[1]
    for index in (3, 17, 31):
        masks[index] = ERRORS[kind](masks[index])
    ranked = rank(audit_of(masks, said))
    assert {one.evidence.name for one in ranked[:3]} == {"003", "017", "031"}
    assert ranked[2].score > THRESHOLD
    if kind == "moved":
        assert [one.kind for one in ranked[:3]] == ["moved"] * 3
        assert {one.evidence.translation.right for one in ranked[:3]} == {-2}


def test_two_images_whose_masks_were_swapped_are_told_as_such(sound) -> None:
    masks, said = list(sound[0]), sound[1]
    masks[6], masks[9] = masks[9], masks[6]
    ranked = rank(audit_of(masks, said))
    first = {one.evidence.name: one for one in ranked[:2]}
    assert {name: one.kind for name, one in first.items()} == {"006": "mask", "009": "mask"}
    likes = {name: one.like.name for name, one in first.items() if one.like is not None}
    assert likes == {"006": "009", "009": "006"}
    result = audited(
        ranked,
        labels=LABELS, run="run", out="out", folds=None, threshold=THRESHOLD, calibrations={},
        notes=(),
        void=(),
    )  # fmt: skip
    assert "the masks may be mixed up" in result.images[0].reason
    assert result.images[0].regions[0].kind == "mask"


def test_what_a_model_cannot_see_is_no_mixed_up_mask() -> None:
    random = np.random.default_rng(0)
    labels = [random.integers(0, 4, (64, 64)).astype(np.uint8) for _ in range(9)]
    labels = [np.kron(one[::8, ::8], np.ones((8, 8), np.uint8)) for one in labels]
    valid = np.ones((64, 64), dtype=bool)
    copies = [SmallCopy.of(one, one, valid) for one in labels]
    # Of the first the model sees nothing; what it says of the second happens to fit it in part.
    half = np.where(np.arange(64)[:, None] < 40, labels[0], labels[1])
    copies[0] = SmallCopy.of(labels[0], 3 - labels[0], valid)
    copies[1] = SmallCopy.of(labels[1], half, valid)
    names = [str(i) for i in range(9)]
    assert mixed_up(copies, names, [0, 1]) == {}
    copies[1] = SmallCopy.of(labels[1], labels[0], valid)
    assert mixed_up(copies, names, [0])[0].name == "1"


def test_permuting_the_classes_changes_no_score(sound) -> None:
    masks, said = list(sound[0]), sound[1]
    masks[5] = swapped(masks[5])
    order = np.array([2, 0, 3, 1])
    other = [order[mask].astype(np.uint8) for mask in masks]
    inverse = torch.from_numpy(np.argsort(order))
    first = {one.evidence.name: one.score for one in rank(audit_of(masks, said))}
    second = rank(audit_of(other, [logits[inverse] for logits in said]))
    for one in second:
        assert one.score == pytest.approx(first[one.evidence.name], rel=1e-3, abs=1e-3)


def test_what_stands_under_void_changes_nothing(sound) -> None:
    masks, said = sound
    hidden = [mask.copy() for mask in masks]
    for mask in hidden:
        mask[5:20, 5:20] = 255
    loud = [logits.clone() for logits in said]
    for logits in loud:
        logits[:, 6:19, 6:19] = torch.tensor([0.0, 0.0, 0.0, 30.0])[:, None, None]
    one, two = audit_of(hidden, said)[0], audit_of(hidden, loud)[0]
    assert one.contradiction == pytest.approx(two.contradiction)
    assert one.regions == two.regions


def test_an_image_of_void_alone_has_no_evidence() -> None:
    mask = torch.full((20, 30), 255, dtype=torch.uint8)
    assert assess(torch.zeros(4, 20, 30), mask, labels=LABELS, calibration=plain()) is None


def test_large_images_are_audited_in_squares(sound, monkeypatch) -> None:
    mask = swapped(scene(100, (48, 64)))
    large = torch.from_numpy(mask.repeat(4, 0).repeat(4, 1))
    said = logits_of(scene(100, (48, 64)), 300).repeat_interleave(4, 1).repeat_interleave(4, 2)
    whole = assess(said, large, labels=LABELS, calibration=plain())
    monkeypatch.setattr("truemask.analysis.audit_image.REGION_PIXELS", 48 * 64)
    coarse = assess(said, large, labels=LABELS, calibration=plain())
    assert whole is not None
    assert coarse is not None
    assert coarse.contradiction == pytest.approx(whole.contradiction, rel=1e-4)
    assert coarse.regions[0].cell == 4
    for key in ("left", "top", "width", "height", "pixels"):
        assert getattr(coarse.regions[0], key) == getattr(whole.regions[0], key)


def test_the_file_comes_back_as_what_was_flagged(sound, tmp_path: Path) -> None:
    masks, said = list(sound[0]), sound[1]
    masks[3], masks[17] = swapped(masks[3]), ERRORS["other mask"](masks[17])
    result = audited(
        rank(audit_of(masks, said)),
        labels=LABELS, run="run", out="out", folds=None, threshold=THRESHOLD, calibrations={},
        notes=(),
        void=(),
    )  # fmt: skip
    file = tmp_path / "audit.csv"
    file.write_text(csv_text(result), encoding="utf-8")
    marks = read_marks(file)
    assert [mark.name for mark in marks.images] == [image.name for image in result.flagged]
    flagged = {
        (image.name, region.left, region.top, region.pixels)
        for image in result.images
        for region in image.regions
        if region.flagged
    }
    assert flagged
    assert {
        (mark.name, mark.left, mark.top, int(mark.inside().sum())) for mark in marks.regions
    } == flagged
    # The disputed pixels are those that were changed.
    region = next(mark for mark in marks.regions if mark.name == "003")
    wrong = np.zeros(masks[3].shape, dtype=bool)
    rows = slice(region.top, region.top + region.height)
    wrong[rows, region.left : region.left + region.width] = region.inside()
    changed = masks[3] != sound[0][3]
    assert (wrong & changed).sum() / (wrong | changed).sum() > 0.6
    json.dumps(result.to_json(), allow_nan=False)
    rows_read = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert [int(row["rank"]) for row in rows_read if row["what"] == "image"] == list(range(1, 41))


def test_one_image_alone_is_audited_and_not_flagged(sound) -> None:
    (only,) = rank(audit_of([ERRORS["other mask"](sound[0][0])], [sound[1][0]]))
    assert only.score == 0


def test_the_page_shows_what_comes_first_and_says_what_it_leaves_to_the_list(
    sound, tmp_path: Path, monkeypatch
) -> None:
    masks, said = list(sound[0]), sound[1]
    masks[3] = swapped(masks[3])
    hostile = LabelMap(names=("<b>sky", "road", "car", "tree"), values=LABELS.values)
    result = audited(
        rank(audit_of(masks, said)),
        labels=hostile, run="run", out="a b", folds=None, threshold=THRESHOLD, calibrations={},
        notes=("What a reader must know.",), void=(),
    )  # fmt: skip
    taken = {
        ("", f"{i:03}"): AuditPicture(
            np.zeros((*mask.shape, 3), np.uint8), mask, logits.argmax(0).numpy().astype(np.uint8)
        )
        for i, (mask, logits) in enumerate(zip(masks, said, strict=True))
    }
    monkeypatch.setattr("truemask.analysis.audit_page.MOST", 10)
    write_page(result, taken, labels=hostile, path=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "30 more images" in page
    assert "What a reader must know." in page
    assert "<b>sky" not in page
    assert "data.exclude=&#39;a b/audit.csv&#39;" in page
    items = json.loads(page.split('<script type="application/json">')[1].split("</script>")[0])
    assert [item[0] for item in items["items"]] == [image.name for image in result.images[:10]]


def test_only_flagged_regions_are_orange_and_void_is_not_grey(sound) -> None:
    masks, said = list(sound[0]), sound[1]
    masks[3] = swapped(masks[3])
    masks[3][:8, :8] = 255
    result = audited(
        rank(audit_of(masks, said)),
        labels=LABELS, run="run", out="out", folds=None, threshold=THRESHOLD, calibrations={},
        notes=(),
        void=(),
    )  # fmt: skip
    image = next(image for image in result.images if image.name == "003")
    prediction = said[3].argmax(0).numpy().astype(np.uint8)
    black = np.zeros((*masks[3].shape, 3), np.uint8)
    drawn = disputed(image, AuditPicture(black, masks[3], prediction), 255)
    orange = drawn[..., 0] > drawn[..., 2].astype(int) + 40
    wanted = np.zeros(masks[3].shape, dtype=bool)
    for region in image.regions:
        if region.flagged:
            mark = RegionMark(
                part=None, name="", size=masks[3].shape, top=region.top, left=region.left,
                height=region.height, width=region.width, runs=read_runs(region.runs),
            )  # fmt: skip
            rows = slice(mark.top, mark.top + mark.height)
            wanted[rows, mark.left : mark.left + mark.width] |= mark.inside()
    assert wanted.any()
    assert np.array_equal(orange, wanted)
    assert (drawn[:8, :8] == 110).all()
