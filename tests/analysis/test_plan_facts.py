"""What a plan knows of a dataset is what its survey says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from truemask.analysis import plan_survey
from truemask.analysis.plan_facts import Facts
from truemask.analysis.plan_survey import look_at
from truemask.analysis.survey import survey
from truemask.analysis.survey_cache import CountsCache
from truemask.datasets.sample import Sample
from truemask.images import RGB
from truemask.labels import LabelMap

LABELS = LabelMap(names=("sky", "road", "pole", "dragon"), values={0: 0, 1: 1, 2: 2, 3: 3})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUEMASK_CACHE", str(tmp_path / "cache"))


class Streets:
    """Sky above, road below, a pole of three pixels somewhere in the sky."""

    labels, images = LABELS, RGB

    def __init__(self, masks: list[np.ndarray]) -> None:
        self.masks = masks
        self.names = [str(i) for i in range(len(masks))]
        self.read = 0

    def __len__(self) -> int:
        return len(self.masks)

    def fingerprint(self, index: int) -> bytes:
        return self.masks[index].tobytes()

    def __getitem__(self, index: int) -> Sample:
        self.read += 1
        mask = torch.from_numpy(self.masks[index])
        colours = torch.tensor([[0, 0, 250], [90, 90, 90], [90, 90, 90]], dtype=torch.uint8)
        image = colours[mask.long()].permute(2, 0, 1)
        return Sample(
            image=tv_tensors.Image(image), mask=tv_tensors.Mask(mask), name=self.names[index]
        )


def street(pole: int, height: int = 48) -> np.ndarray:
    mask = np.zeros((height, 60), np.uint8)
    mask[24:] = 1
    mask[:24, pole : pole + 3] = 2
    return mask


def facts_of(masks: list[np.ndarray]) -> tuple[Facts, list[str]]:
    return look_at({"train": Streets(masks)})


def test_facts_of_streets() -> None:
    facts, warnings = facts_of([street(p) for p in range(0, 57, 3)])
    assert (facts.images, facts.counted, facts.height, facts.width) == (19, 19, 48, 60)
    assert list(facts.classes) == list(LABELS.names)
    assert facts.classes["pole"].share == pytest.approx(3 * 24 / (48 * 60))
    assert facts.classes["road"].present == 1.0
    thinnest = facts.thinnest
    assert thinnest is not None
    assert thinnest[0] == "pole"
    assert thinnest[1] == pytest.approx(3, abs=0.4)
    # Road and pole have one colour, the sky another.
    assert facts.colour == pytest.approx(1 / 3)
    assert facts.missing == ["dragon"]
    assert len(warnings) == 1
    assert "dragon never occurs in the 19 training images" in warnings[0]
    assert "scores 0" in warnings[0]


def test_after_a_survey_no_image_is_read() -> None:
    masks = [street(p) for p in range(0, 57, 3)]
    train = Streets(masks)
    result = survey({"train": train}, name="x", processes=1, cache=CountsCache())
    before = train.read
    facts, _ = look_at({"train": train})
    assert train.read == before == 19
    assert facts == Facts.of(result.parts["train"], images=19, spec=RGB)


@pytest.mark.parametrize(
    ("modes", "photos"),
    [({"RGB": 4}, True), ({"16-bit L": 4}, False), ({"RGB": 3, "16-bit RGB": 1}, False)],
)
def test_files_of_16_bits_are_no_photos(modes: dict[str, int], photos: bool) -> None:
    train = Streets([street(p) for p in range(0, 12, 3)])
    part = survey({"train": train}, name="x", processes=1).parts["train"]
    # A folder gives both kinds as RGB of 8 bits: only the survey knows what the files hold.
    facts = Facts.of(replace(part, modes=modes), images=4, spec=RGB)
    assert facts.photos is photos


def test_sizes_are_medians() -> None:
    facts, _ = facts_of([street(3, height) for height in (40, 44, 48, 60)])
    assert facts.height == 46
    assert facts_of([street(3, height) for height in (40, 44, 60)])[0].height == 44


def test_of_a_large_part_the_same_images_are_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_survey, "MOST_COUNTED", 10)
    masks = [street(p % 57, 30 + p) for p in range(100)]
    one, two = facts_of(masks)[0], facts_of(masks)[0]
    assert (one.images, one.counted) == (100, 10)
    assert one == two


def test_resized_facts_are_those_of_the_resized_images() -> None:
    masks = [street(p) for p in range(0, 57, 3)]
    halved = [mask[::2, ::2].copy() for mask in masks]
    found, known = facts_of(masks)[0].resized(24, 30), facts_of(halved)[0]
    assert (found.height, found.width) == (known.height, known.width)
    for name in ("sky", "road"):
        one, other = found.classes[name].thickness, known.classes[name].thickness
        assert one is not None
        assert one == pytest.approx(other, rel=0.1)


def test_without_level_edges_the_ratio_is_none_in_json() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:, 10:] = 1
    facts, _ = facts_of([mask])
    assert facts.edge_ratio == float("inf")
    assert facts.to_json()["edge_ratio"] is None
