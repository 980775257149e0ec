"""A small model that several files predict with."""

from pathlib import Path

import pytest
import torch
from torch import nn

from truemask.bundle import Bundle, load_bundle, save_bundle
from truemask.images import RGB
from truemask.labels import LabelMap
from truemask.models.described import build_network
from truemask.models.segmenter import Segmenter


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the bundle lies; nothing may be written there."""
    network = {
        "_target_": "truemask.models.unet.UNet", "in_channels": 3, "out_channels": 3,
        "widths": [4, 8],
    }  # fmt: skip
    torch.manual_seed(0)
    model = Segmenter(network=build_network(network), images=RGB)
    nn.init.normal_(model.network.head.weight)  # type: ignore[union-attr]
    labels = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 2: 2})
    place = tmp_path_factory.mktemp("run") / "model"
    save_bundle(place, model=model, network=network, labels=labels, info={})
    return place


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    """A test's own."""
    return load_bundle(bundle_folder)
