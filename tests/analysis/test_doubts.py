"""Images of an evaluation that are unlike the training's."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from truemask.analysis.doubts import DoubtWatcher
from truemask.bundle import Bundle, Inputs
from truemask.checks.inputs import describe_images
from truemask.datasets.sample import Sample
from truemask.evaluation import Seen
from truemask.images import ImageSpec
from truemask.labels import LabelMap
from truemask.metrics.confusion import headline, iou
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet
from truemask.per_image import Evaluation

LABELS = LabelMap(names=("road", "sky", "car"), values={0: 0, 1: 1, 2: 2})


def photo(seed: int, *, inverted: bool = False) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(20, 90, (40, 48, 3), dtype=np.uint8)
    return 255 - pixels if inverted else pixels


@pytest.fixture
def bundle(tmp_path) -> Bundle:
    known = describe_images(photo(seed) for seed in range(30)).to_json()
    network = UNet(in_channels=3, out_channels=3, widths=(4, 6))
    return Bundle(
        model=Segmenter(network=network, images=ImageSpec()),
        labels=LABELS,
        network={},
        info={},
        inputs=Inputs(value=known, file=tmp_path / "inputs.json"),
    )


def watch(bundle: Bundle, inverted: list[bool]):
    """What a watcher says of images of which some are inverted."""
    watcher = DoubtWatcher(bundle)
    for number, one in enumerate(inverted):
        image = torch.from_numpy(photo(100 + number, inverted=one)).permute(2, 0, 1)
        nothing = torch.zeros(40, 48, dtype=torch.uint8)
        sample = Sample(image=image, mask=nothing, name=str(number))
        watcher(Seen(sample=sample, truth=nothing, logits=torch.zeros(3, 40, 48), ids=nothing))
    matrices = np.random.default_rng(0).integers(0, 90, (len(inverted), 3, 3))
    evaluation = Evaluation(
        names=[str(number) for number in range(len(inverted))],
        matrices=matrices,
        losses=np.zeros(len(inverted)),
        attributes=[{}] * len(inverted),
        labels=LABELS,
    )
    return watcher.result(evaluation), matrices


def test_images_are_told_apart_and_each_kind_is_judged(bundle: Bundle) -> None:
    inverted = [False, True, False, False, True]
    found, matrices = watch(bundle, inverted)
    assert (found.images, found.unlike, set(found.names)) == (5, 2, {"1", "4"})
    chosen = np.array(inverted)
    assert found.iou_unlike == pytest.approx(float(headline(iou(matrices[chosen].sum(0)))))
    assert found.iou_others == pytest.approx(float(headline(iou(matrices[~chosen].sum(0)))))
    assert str(found).startswith("2 of 5 images unlike the training's (IoU 0.")


def test_where_all_or_none_are_like_them(bundle: Bundle) -> None:
    found, _ = watch(bundle, [False, False])
    assert (found.unlike, found.iou_unlike, found.names) == (0, None, [])
    found, _ = watch(bundle, [True])
    assert (found.unlike, found.iou_others) == (1, None)
    nothing, _ = watch(replace(bundle, inputs=None), [True])
    assert nothing is None
