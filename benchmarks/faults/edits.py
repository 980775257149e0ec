"""What goes wrong with pairs of images and masks, as functions of one pair."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from benchmarks.faults.material import IGNORED, Array, Pair

Edit = Callable[[Pair, np.random.Generator], Pair]


def in_share(pairs: Sequence[Pair], share: float, edit: Edit, *, seed: int = 0) -> list[Pair]:
    """The pairs, a share of them edited, at least one."""
    random = np.random.default_rng(seed)
    count = max(1, round(share * len(pairs)))
    chosen = set(random.choice(len(pairs), count, replace=False).tolist())
    return [edit(pair, random) if i in chosen else pair for i, pair in enumerate(pairs)]


def shifted(pixels: int) -> Edit:
    """The mask lies some pixels beside the image, in a diagonal; its edge is repeated."""

    def edit(pair: Pair, random: np.random.Generator) -> Pair:
        down, right = random.choice((-1, 1), 2) * pixels
        padded = np.pad(pair.mask, pixels, mode="edge")
        top, left = pixels - down, pixels - right
        height, width = pair.mask.shape
        return pair.with_mask(padded[top : top + height, left : left + width].copy())

    return edit


def mirrored(pair: Pair, random: np.random.Generator) -> Pair:
    """The mask is flipped left to right."""
    return pair.with_mask(pair.mask[:, ::-1].copy())


def upside_down(pair: Pair, random: np.random.Generator) -> Pair:
    """The mask is flipped top to bottom."""
    return pair.with_mask(pair.mask[::-1].copy())


def image_mirrored(pair: Pair, random: np.random.Generator) -> Pair:
    """The image is flipped left to right, the mask is not."""
    return pair.with_image(pair.image[:, ::-1].copy())


def swapped_masks(pairs: Sequence[Pair], share: float, *, seed: int = 0) -> list[Pair]:
    """A share of the pairs exchange masks in a ring (at least two); sizes stay true."""
    random = np.random.default_rng(seed)
    count = max(2, round(share * len(pairs)))
    chosen = random.choice(len(pairs), count, replace=False)
    result = list(pairs)
    for one, other in zip(chosen, np.roll(chosen, 1), strict=True):
        mask = Image.fromarray(pairs[other].mask)
        height, width = pairs[one].mask.shape
        same_size = mask.resize((width, height), Image.Resampling.NEAREST)
        result[one] = pairs[one].with_mask(np.array(same_size))
    return result


def next_masks(pairs: Sequence[Pair]) -> list[Pair]:
    """Every image has the mask of the next one: lists that were sorted in different ways."""
    return swapped_masks(pairs, 1.0, seed=3)


def jpeg(quality: int, *, scale: int = 1) -> Edit:
    """The mask was saved as JPEG; `scale` is what a class id was multiplied with."""

    def edit(pair: Pair, random: np.random.Generator) -> Pair:
        file = io.BytesIO()
        Image.fromarray(pair.mask * np.uint8(scale)).save(file, "JPEG", quality=quality)
        return pair.with_mask(np.array(Image.open(file)))

    return edit


def smoothly_resized(factor: float, resample: Image.Resampling, *, scale: int = 1) -> Edit:
    """Image and mask were made smaller, the mask with a smooth filter too."""

    def edit(pair: Pair, random: np.random.Generator) -> Pair:
        height, width = (max(8, round(side * factor)) for side in pair.mask.shape)
        mask = Image.fromarray(pair.mask * np.uint8(scale)).resize((width, height), resample)
        image = Image.fromarray(pair.image.squeeze()).resize((width, height))
        array = np.array(image).reshape(height, width, -1)
        return Pair(pair.name, array, np.array(mask))

    return edit


def relabelled(old: int, new: int) -> Edit:
    """One class is called another."""

    def edit(pair: Pair, random: np.random.Generator) -> Pair:
        return pair.with_mask(np.where(pair.mask == old, np.uint8(new), pair.mask))

    return edit


def with_blob(value: int, share: float, *, rows: tuple[float, float] = (0.0, 1.0)) -> Edit:
    """An ellipse of a value somewhere between two heights, of a share of the image's area."""

    def edit(pair: Pair, random: np.random.Generator) -> Pair:
        height, width = pair.mask.shape
        radius = np.sqrt(share * height * width / np.pi)
        y = random.uniform(*rows) * height
        x = random.uniform(0.2, 0.8) * width
        down, right = np.ogrid[:height, :width]
        inside = (down - y) ** 2 + (right - x) ** 2 <= max(radius, 0.8) ** 2
        return pair.with_mask(np.where(inside, np.uint8(value), pair.mask))

    return edit


def ignored_whole(pair: Pair, random: np.random.Generator) -> Pair:
    """Every pixel is ignored."""
    return pair.with_mask(np.full_like(pair.mask, IGNORED))


def bonnet(value: int, share: float) -> Edit:
    """The car's own bonnet: a flat arch of one class at the bottom, the same in every image."""

    def edit(pair: Pair, random: np.random.Generator) -> Pair:
        height, width = pair.mask.shape
        down, right = np.ogrid[:height, :width]
        arch = 1 - share * (1.2 - 0.6 * (2 * right / width - 1) ** 2)
        return pair.with_mask(np.where(down > arch * height, np.uint8(value), pair.mask))

    return edit


def resized_images(pair: Pair, factor: float) -> Pair:
    """The pair at another size, as another program exported it."""
    height, width = (round(side * factor) for side in pair.mask.shape)
    image = Image.fromarray(pair.image).resize((width, height), Image.Resampling.BICUBIC)
    mask = Image.fromarray(pair.mask).resize((width, height), Image.Resampling.NEAREST)
    return Pair(f"{pair.name}_small", np.array(image), np.array(mask))


def recompressed(pair: Pair, quality: int) -> Pair:
    """The image went through JPEG once more."""
    file = io.BytesIO()
    Image.fromarray(pair.image).save(file, "JPEG", quality=quality)
    return Pair(f"{pair.name}_copy", np.array(Image.open(file)), pair.mask)


def both_mirrored(pair: Pair) -> Pair:
    """Image and mask flipped together: an augmentation on disk."""
    return Pair(f"{pair.name}_flip", pair.image[:, ::-1].copy(), pair.mask[:, ::-1].copy())


def brightened(pair: Pair, factor: float) -> Pair:
    """The image exported at another exposure."""
    image = np.clip(pair.image.astype(np.float32) * factor, 0, 255).astype(np.uint8)
    return Pair(f"{pair.name}_bright", image, pair.mask)


def cropped(pair: Pair, share: float) -> Pair:
    """A margin of the pair was cut off."""
    height, width = pair.mask.shape
    y, x = round(height * share / 2), round(width * share / 2)
    window = (slice(y, height - y), slice(x, width - x))
    return Pair(f"{pair.name}_crop", pair.image[window].copy(), pair.mask[window].copy())


def palette() -> Array:
    """The VOC palette, (256, 3)."""
    colors = np.zeros((256, 3), np.uint8)
    for value in range(256):
        bits = value
        for place in range(8):
            for channel in range(3):
                colors[value, channel] |= ((bits >> channel) & 1) << (7 - place)
            bits >>= 3
    return colors
