import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from truemask.checks.loaders import check_loader
from truemask.data.collate import Batch
from truemask.errors import UsageError
from truemask.images import ImageSpec

DATA = Path(__file__).parents[2] / "../shared/data"
CLASSES = 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def scene(index, height=96, width=128):
    """A photo (H, W, 3) uint8 of coloured regions with light and noise, and its ids."""
    generator = np.random.default_rng(index)
    rows, columns = np.mgrid[:height, :width]
    places = generator.uniform(0, 1, (14, 2)) * (height, width)
    nearest = (rows - places[:, 0, None, None]) ** 2 + (columns - places[:, 1, None, None]) ** 2
    ids = (np.arange(14) % CLASSES)[nearest.argmin(0)].astype(np.uint8)
    colours = np.array([[200, 90, 30], [40, 150, 60], [120, 120, 230]])[ids]
    shade = 0.55 + 0.5 * rows[..., None] / height
    photo = colours * shade + generator.normal(0, 12, (height, width, 1))
    photo[:4, :4], photo[-4:, -4:] = 0, 255
    return photo.clip(0, 255).astype(np.uint8), ids


class Scenes(Dataset):
    """Scenes that go through a function of (image, mask), tensors."""

    def __init__(self, change=lambda image, mask: (image, mask), count=16, folder=None):
        self.change, self.count = change, count
        self.files = [] if folder is None else [str(folder / f"{i}.png") for i in range(count)]
        for index, path in enumerate(self.files):
            Image.fromarray(scene(index)[0]).save(path)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        photo, ids = scene(index)
        image = tv_tensors.Image(torch.from_numpy(photo).permute(2, 0, 1))
        return self.change(image, tv_tensors.Mask(torch.from_numpy(ids).long()))


NORMALIZE = v2.Normalize(MEAN, STD)
TO_FLOAT = v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)
IMAGENET = v2.Compose([TO_FLOAT, NORMALIZE])


def loader(*changes, **options):
    def change(image, mask):
        for step in changes:
            image, mask = step(image, mask)
        return image, mask

    return DataLoader(Scenes(change), batch_size=4, shuffle=True, **options)


def image_only(function):
    return lambda image, mask: (function(image), mask)


def codes(batches, **options):
    settings = {"num_classes": CLASSES, "normalization": "imagenet"}
    found = check_loader(batches, **(settings | options))
    return {finding.code for finding in found if finding.level != "note"}


AUGMENTED = v2.Compose(
    [
        v2.RandomHorizontalFlip(),
        v2.RandomResizedCrop((80, 112), scale=(0.5, 1.0), antialias=True),
        v2.ColorJitter(0.3, 0.3, 0.3),
        TO_FLOAT,
        NORMALIZE,
    ]
)

SOUND = {
    "normalised": (IMAGENET, {}),
    "augmented": (AUGMENTED, {}),
    "0 to 1": (TO_FLOAT, {"normalization": "0-1"}),
    "-1 to 1": (
        v2.Compose([TO_FLOAT, v2.Normalize([0.5] * 3, [0.5] * 3)]),
        {"normalization": {"mean": [0.5] * 3, "std": [0.5] * 3}},
    ),
    "as read": (v2.Identity(), {"normalization": ImageSpec()}),
    "undeclared": (IMAGENET, {"normalization": None}),
    "undeclared, 0 to 255": (image_only(lambda x: x.float()), {"normalization": None}),
    "smoothly resized": (v2.Compose([TO_FLOAT, v2.Resize((60, 80)), NORMALIZE]), {}),
}


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_said_of_a_sound_loader(name):
    change, options = SOUND[name]
    assert codes(loader(change), **options) == set()


WRONG = {
    "never scaled": (image_only(lambda x: x.float()), {}, "never scaled"),
    "0-255 normalised": (image_only(lambda x: NORMALIZE(x.float())), {}, "from 0 to 255 were"),
    "0-255 normalised, undeclared": (
        image_only(lambda x: NORMALIZE(x.float())),
        {"normalization": None},
        "from 0 to 255 were",
    ),
    "divided twice": (
        image_only(lambda x: x.float() / 255 / 255),
        {"normalization": "0-1"},
        "divided by 255 twice",
    ),
    "divided twice, undeclared": (
        image_only(lambda x: x.float() / 255 / 255),
        {"normalization": None},
        "divided by 255 twice",
    ),
    "divided twice, normalised": (
        image_only(lambda x: NORMALIZE(x.float() / 255 / 255)),
        {},
        "divided by 255 twice",
    ),
    "never normalised": (TO_FLOAT, {}, "never normalised"),
    "normalised twice": (v2.Compose([IMAGENET, NORMALIZE]), {}, "normalised twice"),
    "other statistics": (
        v2.Compose([TO_FLOAT, v2.Normalize((0.41, 0.45, 0.48), (0.31, 0.30, 0.30))]),
        {},
        "another mean or standard deviation",
    ),
    "channels too few": (image_only(lambda x: x[:1].float()), {}, "1 channel"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_scaling_is_found_and_named(name):
    change, options, words = WRONG[name]
    settings = {"num_classes": CLASSES, "normalization": "imagenet"}
    found = check_loader(loader(change), **(settings | options))
    assert [(finding.code, finding.level) for finding in found] == [("TM301", "error")]
    assert words in found[0].message


def test_one_kind_of_file_divided_twice_is_found():
    def change(image, mask):
        twice = int(image.sum()) % 4 == 0
        return NORMALIZE(image.float() / 255 / (255 if twice else 1)), mask

    assert codes(loader(change)) == {"TM301"}


@pytest.mark.parametrize("subset", [False, True])
def test_swapped_channels_are_found_by_the_files(tmp_path, subset):
    def opened(change):
        dataset = Scenes(change, folder=tmp_path)
        part = torch.utils.data.Subset(dataset, range(8)) if subset else dataset
        return DataLoader(part, batch_size=4, shuffle=True)

    def swap(image, mask):
        return IMAGENET(tv_tensors.Image(image.flip(0)), mask)

    assert codes(opened(lambda image, mask: IMAGENET(image, mask))) == set()
    assert codes(opened(swap)) == {"TM302"}
    files = [tmp_path / f"{index}.png" for index in range(16)]
    assert codes(loader(swap), dataset=files) == {"TM302"}
    assert codes(loader(swap)) == set()  # Nothing to compare with.
    assert codes(loader(swap), dataset=Scenes()) == {"TM302"}


@pytest.mark.parametrize(
    ("order", "share", "found"),
    [((2, 1, 0), 0.5, True), ((2, 1, 0), 0.3, True), ((1, 2, 0), 1.0, True), (None, 1.0, False)],
)
def test_any_order_of_channels_in_some_of_the_images_is_found(order, share, found):
    """A shuffle that draws another order each time is an augmentation."""
    random.seed(0)
    torch.manual_seed(0)

    def change(image, mask):
        chosen = random.sample(range(3), 3) if order is None else list(order)
        moved = image[chosen] if random.random() < share else image
        return IMAGENET(tv_tensors.Image(moved), mask)

    said = codes(loader(change), dataset=Scenes())
    assert said == ({"TM302"} if found else set())


MOVED = {
    "flip of the image": image_only(v2.RandomHorizontalFlip()),
    "flip of the mask": lambda image, mask: (image, v2.RandomVerticalFlip(1.0)(mask)),
    "two draws": lambda image, mask: (
        v2.RandomCrop((72, 96))(image),
        v2.RandomCrop((72, 96))(mask),
    ),
    "shift": lambda image, mask: (image, mask.roll(6, 1)),
}


@pytest.mark.parametrize("name", MOVED)
def test_a_mask_that_is_not_moved_along_is_found(name):
    random.seed(0)
    torch.manual_seed(0)
    assert codes(loader(MOVED[name], IMAGENET)) == {"TM303"}


def collate_padded(value, *, before):
    """Pads to the largest size, before or after the normalisation."""

    def collate(samples):
        height = max(image.shape[1] for image, _ in samples)
        width = max(image.shape[2] for image, _ in samples)
        images, masks = [], []
        for image, mask in samples:
            space = (0, width - image.shape[2], 0, height - image.shape[1])
            pad = torch.nn.functional.pad
            if before:
                image = pad(image, space)
            image = IMAGENET(tv_tensors.Image(image)).as_subclass(torch.Tensor)
            image = image if before else pad(image, space)
            images.append(image)
            masks.append(pad(mask, space, value=value))
        return torch.stack(images), torch.stack(masks)

    return collate


def cropped(image, mask):
    height, width = 96 - 8 * int(image.sum() % 3), 128 - 8 * int(image.sum() % 5)
    return image[:, :height, :width].as_subclass(torch.Tensor), mask[:height, :width].as_subclass(
        torch.Tensor
    )


@pytest.mark.parametrize("before", [False, True])
def test_padding_that_holds_a_class_is_found(before):
    sound = loader(cropped, collate_fn=collate_padded(255, before=before))
    assert codes(sound) == set()
    wrong = loader(cropped, collate_fn=collate_padded(0, before=before))
    (found,) = check_loader(wrong, num_classes=CLASSES, normalization="imagenet")
    assert (found.code, found.evidence["ids"]) == ("TM304", [0])


def test_black_borders_that_all_images_have_are_part_of_them():
    def bordered(image, mask):
        image, mask = image.clone(), mask.clone()
        image[:, :10], mask[:10] = 0, 0
        return IMAGENET(image, mask)

    assert codes(loader(bordered)) == set()


def letterboxed(value):
    def change(image, mask):
        pad = torch.nn.functional.pad
        image = pad(image.as_subclass(torch.Tensor), (0, 0, 0, 32))
        mask = pad(mask.as_subclass(torch.Tensor), (0, 0, 0, 32), value=value)
        return IMAGENET(tv_tensors.Image(image), tv_tensors.Mask(mask))

    return change


def test_a_letterbox_that_holds_a_class_is_found():
    assert codes(loader(letterboxed(255))) == set()
    (found,) = check_loader(loader(letterboxed(0)), num_classes=CLASSES, normalization="imagenet")
    assert (found.code, found.level, found.evidence["images"]) == ("TM304", "warning", 16)


def test_an_overexposed_sky_is_no_padding():
    def bright(image, mask):
        image, mask = image.clone(), mask.clone()
        if int(image.sum()) % 3 == 0:
            image[:, :8], mask[:8] = 255, 0
        return IMAGENET(image, mask)

    assert codes(loader(bright)) == set()


@pytest.mark.parametrize("degrees", [8, 15, 40])
def test_an_image_that_is_rotated_alone_is_found(degrees):
    torch.manual_seed(0)
    rotated = image_only(v2.RandomRotation(degrees))
    (found,) = check_loader(
        loader(rotated, IMAGENET), num_classes=CLASSES, normalization="imagenet"
    )
    assert found.code == "TM303"
    assert found.evidence["kinds"]["rotated"] >= 2
    together = loader(v2.RandomRotation(degrees, fill={tv_tensors.Mask: 255, "others": 0}))
    assert codes(together, normalization=None) == set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image, mask: (image, mask + 1), "hold 3"),
        (lambda image, mask: (image, mask / 255), "divided by 255"),
        (lambda image, mask: (image, mask[None].repeat(5, 1, 1) + 2), "neither ids"),
    ],
)
def test_masks_that_hold_no_classes(change, words):
    batches = loader(IMAGENET, change)
    found = check_loader(batches, num_classes=CLASSES, normalization="imagenet")
    assert found[0].code == "TM107"
    assert words in found[0].message


def black_and_white(image, mask):
    return image, torch.where(mask == 2, 255, 0)


def background_in_padding(image, mask):
    mask = torch.zeros_like(mask)
    mask[..., -20:] = 255
    return image, mask


def black_white_and_one(image, mask):
    return image, torch.where(mask == 2, 255, (mask == 1).long())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (black_and_white, {"TM109"}),
        (background_in_padding, set()),
        (black_white_and_one, set()),
    ],
)
@pytest.mark.parametrize("classes", [1, 2])
def test_a_foreground_that_is_ignored_is_found(change, found, classes):
    said = check_loader(loader(change), num_classes=classes)
    assert {finding.code for finding in said} & {"TM107", "TM109"} == found


def test_batches_of_many_forms_are_understood():
    images, masks = next(iter(loader(IMAGENET)))
    hot = torch.nn.functional.one_hot(masks, CLASSES).permute(0, 3, 1, 2).float()
    named = Batch(images=images, masks=masks.to(torch.uint8), names=[], attributes=[])
    for batch in (
        {"pixel_values": images, "labels": masks},
        (images.permute(0, 2, 3, 1), masks[:, None].float()),
        [images.numpy(), masks.numpy()],
        (images, hot),
        named,
    ):
        assert codes([batch]) == set()


def test_the_loader_and_all_random_numbers_are_left_as_they_were():
    generator = torch.Generator().manual_seed(3)
    batches = loader(AUGMENTED, generator=generator)
    random.seed(1)
    before = (torch.get_rng_state(), random.getstate(), generator.get_state())
    codes(batches)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert torch.equal(generator.get_state(), before[2])


def test_unusable_input_is_told_in_one_line():
    with pytest.raises(UsageError, match="read only once"):
        codes(iter([]))
    with pytest.raises(UsageError, match="gives no batch"):
        codes([])
    with pytest.raises(UsageError, match="normalization is 'image-net'"):
        codes(loader(IMAGENET), normalization="image-net")
    with pytest.raises(UsageError, match="no images can be told"):
        codes([{"a": 1}])


class Files(Dataset):
    """Real images with masks, as people read them."""

    def __init__(self, name, change):
        root = DATA / name / "train"
        self.images = sorted((root / "images").iterdir())
        self.masks = sorted((root / "masks").iterdir())
        self.change = change

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = tv_tensors.Image(Image.open(self.images[index]).convert("RGB"))
        mask = tv_tensors.Mask(torch.from_numpy(np.array(Image.open(self.masks[index]))).long())
        return self.change(image, mask)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["camvid", "crackforest"])
def test_real_images_are_told_sound_from_wrong(name):
    if not (DATA / name / "train" / "images").is_dir():
        pytest.skip(f"needs the images of {DATA / name}")

    def opened(change):
        return DataLoader(Files(name, change), batch_size=4, shuffle=True)

    torch.manual_seed(0)
    crop = v2.Compose([v2.RandomCrop((224, 288), pad_if_needed=True), v2.RandomHorizontalFlip()])
    settings = {"num_classes": 256, "normalization": "imagenet"}
    both = opened(lambda image, mask: IMAGENET(*crop(image, mask)))
    assert check_loader(both, **settings) == []
    swapped = opened(lambda image, mask: IMAGENET(tv_tensors.Image(image.flip(0)), mask))
    assert [found.code for found in check_loader(swapped, **settings)] == ["TM302"]
    alone = opened(lambda image, mask: IMAGENET(v2.RandomHorizontalFlip()(image), mask))
    assert [found.code for found in check_loader(alone, **settings)] == ["TM303"]
