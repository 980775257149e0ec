"""What every dataset keeps to, on a generated miniature in its own layout on disk."""

import pickle
import shutil
from collections.abc import Callable
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from truemask.datasets.bdd100k import bdd100k
from truemask.datasets.bsds500 import bsds500
from truemask.datasets.camvid import camvid
from truemask.datasets.carvana import carvana
from truemask.datasets.cityscapes import cityscapes
from truemask.datasets.folder import folder
from truemask.datasets.gta5 import gta5
from truemask.datasets.oxford_pet import oxford_pet
from truemask.datasets.sample import Parts
from truemask.datasets.splitting import PARTS
from truemask.datasets.textures import textures
from truemask.datasets.voc import voc
from truemask.errors import UsageError
from truemask.miniatures.writing import MINIATURES, write_miniature

ON_DISK: dict[str, Callable[[Path], Parts]] = {
    "voc2007": partial(voc, year="2007"),
    "voc2012": partial(voc, year="2012"),
    "oxford_pet": oxford_pet,
    "carvana": carvana,
    "bdd100k": bdd100k,
    "cityscapes": cityscapes,
    "gta5": gta5,
    "camvid": camvid,
    "camvid32": partial(camvid, classes=32),
    "bsds500": bsds500,
    "folder": folder,
}
# With which attributes, and other options to open them with.
ATTRIBUTES = {
    "voc2007": {"year"},
    "voc2012": {"year"},
    "oxford_pet": {"species", "breed"},
    "carvana": {"car", "view"},
    "bdd100k": {"scene", "weather", "timeofday", "area"},
    "cityscapes": {"city"},
    "camvid": {"sequence"},
    "camvid32": {"sequence"},
    "bsds500": {"annotators"},
}
OPTIONS = {
    "bdd100k": {"require_scene": True},
    "cityscapes": {"classes": 30, "ego_vehicle": "static"},
    "camvid32": {"classes": 11},
    "bsds500": {"agreement": 0.2, "doubtful": "background"},
}
IMAGES = 10

every = pytest.mark.parametrize("name", [*ON_DISK, "textures"])
on_disk = pytest.mark.parametrize("name", ON_DISK)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Name -> the folder of its miniature, written when it is first asked for."""
    written: dict[str, Path] = {}

    def root(name: str) -> Path:
        if name not in written:
            out = tmp_path_factory.mktemp(name)
            written[name] = write_miniature(name, out, images=IMAGES, seed=0)
        return written[name]

    return root


@pytest.fixture
def parts(roots, name):
    if name == "textures":
        return textures(size=16, train=3, validation=2, test=2)
    return ON_DISK[name](roots(name))


def samples(parts: Parts):
    return chain.from_iterable(
        ((part, i, part[i]) for i in range(len(part))) for part in parts.values()
    )


def test_every_miniature_is_of_a_dataset():
    assert set(MINIATURES) == set(ON_DISK)


@every
def test_parts(parts, name):
    assert "train" in parts
    assert list(parts) == [part for part in PARTS if part in parts]
    first = parts["train"]
    for part in parts.values():
        assert part.labels is first.labels
        assert part.images == first.images
        assert len(part) == len(part.names) > 0


@every
def test_notes_are_sentences(parts, name):
    assert set(parts.division) <= set(parts.notes)
    for note in parts.notes:
        assert note.endswith(".")
        assert "\n" not in note


@every
def test_names_are_sorted_and_stand_once(parts, name):
    for part in parts.values():
        assert list(part.names) == sorted(part.names)
    names = [one for part in parts.values() for one in part.names]
    assert len(set(names)) == len(names)
    assert not any("\\" in one or one.startswith("/") for one in names)


@every
def test_samples(parts, name):
    shown: set[int] = set()
    for part, index, sample in samples(parts):
        height, width = sample.mask.shape
        assert type(sample.image) is tv_tensors.Image
        assert type(sample.mask) is tv_tensors.Mask
        assert sample.image.shape == (part.images.channels, height, width)
        assert sample.image.dtype == part.images.torch_dtype
        assert sample.mask.dtype == torch.uint8
        assert sample.name == part.names[index]
        ids = set(sample.mask.unique().tolist())
        assert ids <= {*range(part.labels.num_classes), part.labels.ignore_index}
        shown |= ids
    assert len(shown - {parts["train"].labels.ignore_index}) >= 2


@every
def test_reading_again_gives_the_same(parts, name):
    # As the processes of a loader have it.
    copies = Parts({key: pickle.loads(pickle.dumps(part)) for key, part in parts.items()})
    for (_, _, one), (_, _, other) in zip(samples(parts), samples(copies), strict=True):
        assert one.name == other.name
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.mask, other.mask)


@on_disk
def test_opening_again_gives_the_same(parts, roots, name):
    again = ON_DISK[name](roots(name))
    assert again.notes == parts.notes
    assert {key: part.names for key, part in again.items()} == {
        key: part.names for key, part in parts.items()
    }


@on_disk
def test_attributes_and_sizes_are_those_of_the_samples(parts, name):
    keys: set[str] = set()
    for part, index, sample in samples(parts):
        assert len(part.attributes) == len(part.sizes) == len(part)
        assert part.attributes[index] == sample.attributes
        assert part.sizes[index] == tuple(sample.mask.shape)
        assert all(type(value) is str and value for value in sample.attributes.values())
        keys |= sample.attributes.keys()
    assert keys == ATTRIBUTES.get(name, set())


@on_disk
def test_resized(parts, name):
    for part in parts.values():
        whole, small = part[0], part.resized((10, 14))[0]
        assert small.image.shape[1:] == small.mask.shape == (10, 14)
        assert (small.name, small.attributes) == (whole.name, whole.attributes)
        assert set(small.mask.unique().tolist()) <= set(whole.mask.unique().tolist())


@pytest.mark.parametrize("name", OPTIONS)
def test_options_change_nothing_but_labels_or_what_is_left_out(roots, name):
    usual, other = ON_DISK[name](roots(name)), ON_DISK[name](roots(name), **OPTIONS[name])
    for key, part in other.items():
        assert set(part.names) <= set(usual[key].names)
        by_name = dict(zip(usual[key].names, usual[key].attributes, strict=True))
        assert [by_name[one] for one in part.names] == list(part.attributes)
        whole = usual[key][usual[key].names.index(part.names[0])]
        assert torch.equal(part[0].image, whole.image)


@pytest.mark.parametrize("name", [name for name in ON_DISK if name != "folder"])
def test_a_missing_folder_is_one_line_that_says_where_to_get_the_data(tmp_path, name):
    file = tmp_path / "file"
    file.touch()
    for root in (tmp_path / "nowhere" / "deeper", tmp_path, file):
        with pytest.raises(UsageError) as caught:
            ON_DISK[name](root)
        message = str(caught.value)
        assert str(tmp_path) in message
        assert "it must look like" in message
        assert "http" in message
        assert "\n" not in message


@on_disk
def test_endings_may_be_capitals(tmp_path, roots, name):
    root = shutil.copytree(roots(name), tmp_path / "copy")
    for path in sorted(root.rglob("*")):
        if path.suffix in (".jpg", ".png", ".gif", ".mat"):
            path.rename(path.with_suffix(path.suffix.upper()))
    usual, other = ON_DISK[name](roots(name)), ON_DISK[name](root)
    assert other.keys() == usual.keys()
    for key, part in other.items():
        assert part.names == usual[key].names
        assert part.attributes == usual[key].attributes
        assert torch.equal(part[0].mask, usual[key][0].mask)


@on_disk
def test_a_path_may_be_a_string(roots, name):
    assert ON_DISK[name](str(roots(name))).keys() == ON_DISK[name](roots(name)).keys()


@on_disk
def test_an_image_is_in_one_part_only(parts, name):
    seen = [{sample.image.numpy().tobytes() for sample in part} for part in parts.values()]
    for one, other in pairwise(seen):
        assert not one & other


@on_disk
def test_masks_are_not_constant_and_not_all_ignored(parts, name):
    ignored = parts["train"].labels.ignore_index
    shares = [float(np.mean(sample.mask.numpy() != ignored)) for _, _, sample in samples(parts)]
    assert min(shares) > 0.2
