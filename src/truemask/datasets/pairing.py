"""Pairing each image of a folder with its mask, by name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from truemask.datasets.layout import LAYOUTS, ImageFile, list_files, some
from truemask.errors import UsageError

# What the names of masks and images carry beside the name that they share, at the end or the start.
_MASK_MARKS = (
    "mask masks label labels gt seg segmentation annotation annot groundtruth ground_truth "
    "labelids trainids l"
)
_IMAGE_MARKS = "image img sat rgb photo"
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")


@dataclass(frozen=True)
class Pair:
    """An image file and its mask file.

    Attributes:
        part: "train", "validation" or "test" where a folder's name says so, else None.
        name: unique in the folder, and the same on every machine.
        image: path of the image.
        mask: path of the mask.
        attributes: what else is known of the image, such as `{"scene": "city street"}`.
    """

    part: str | None
    name: str
    image: Path
    mask: Path
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)


def find_pairs(
    root: Path,
    *,
    image_folder: str | None = None,
    mask_folder: str | None = None,
    mask_suffix: str | None = None,
) -> tuple[list[Pair], list[str]]:
    """The pairs of a folder, sorted by name, and notes on what was left out.

    Args:
        root: the folder.
        image_folder: the name of folders that hold images, where it is an unusual one.
        mask_folder: the name of folders that hold masks, where it is an unusual one.
        mask_suffix: what the name of a mask has behind that of its image, as "_mask"; by default
            the usual ones are tried.

    Raises:
        UsageError: there is no such folder, it holds no images or no masks, an image or a mask
            stands alone, or two share a name.
    """
    listing = list_files(root, image_folder=image_folder, mask_folder=mask_folder)
    notes = listing.notes
    images, masks, others = _tell_apart(listing.files, root, mask_suffix)
    images, unlabelled = _set_aside_unlabelled_test(images, masks)
    if others:
        places = sorted({f"{file.path.parent.relative_to(root)}/" for file in others})
        notes.append(
            f"{len(others)} files that are neither images nor masks by their folder were left out "
            f"({some(places)})."
        )
    if unlabelled:
        notes.append(f"The test part has no masks: its {len(unlabelled)} images were left out.")
    matched, lonely_images, lonely_masks = _match(images, masks, root, mask_suffix)
    _refuse_lonely(lonely_images, lonely_masks, root)
    pairs = sorted(matched, key=lambda pair: pair.name)
    for part, path in listing.part_folders.items():
        if part not in {pair.part for pair in pairs} | {image.part for image in unlabelled}:
            raise UsageError(f"{path} holds no images: fill this part, or remove the folder")
    outside = [pair.name for pair in pairs if pair.part is None]
    if 0 < len(outside) < len(pairs):
        raise UsageError(
            f"{root} has images in parts (such as train/) and {len(outside)} outside of any "
            f"({some(outside)}): move these into a part, or away"
        )
    if len({pair.name for pair in pairs}) < len(pairs):
        pairs = [replace(pair, name=f"{pair.part}/{pair.name}") for pair in pairs]
    return pairs, notes


@dataclass(frozen=True)
class Matching:
    """The files of a folder, as far as they make pairs.

    Attributes:
        pairs: sorted by name.
        lonely_images: images without a mask.
        lonely_masks: masks without an image.
    """

    pairs: tuple[Pair, ...]
    lonely_images: tuple[Path, ...]
    lonely_masks: tuple[Path, ...]


def match_files(root: Path) -> Matching:
    """As `find_pairs`, but what stands alone is listed, not refused.

    Files of which neither folder nor name says that they are masks count as images.

    Raises:
        UsageError: there is no such folder, it holds no images, or two files share a name.
    """
    files = list_files(root).files
    try:
        images, masks, _ = _tell_apart(files, root, None)
    except UsageError:  # There are only images, or only masks.
        images = [file for file in files if file.kind != "mask"]
        masks = [file for file in files if file.kind == "mask"]
    images, _ = _set_aside_unlabelled_test(images, masks)
    pairs, lone_images, lone_masks = _match(images, masks, root, None)
    return Matching(
        tuple(sorted(pairs, key=lambda pair: pair.name)),
        tuple(image.path for image in lone_images),
        tuple(mask.path for mask in lone_masks),
    )


def _tell_apart(
    files: list[ImageFile], root: Path, mask_suffix: str | None
) -> tuple[list[ImageFile], list[ImageFile], list[ImageFile]]:
    """Images, masks, and what is neither."""
    images = [file for file in files if file.kind == "image"]
    masks = [file for file in files if file.kind == "mask"]
    plain = [file for file in files if file.kind is None]
    others = [file for file in files if file.kind == "other"]
    if masks and images:
        return images, masks, others + plain
    if masks:
        images = plain
    else:
        images, masks = _tell_apart_by_name(images + plain, mask_suffix)
    if not masks:
        raise UsageError(
            f"{root} holds {len(images)} images but no masks: put them into a folder masks/ beside "
            f"images/, or name them like x_mask.png beside x.jpg"
        )
    if not images:
        raise UsageError(f"{root} holds {len(masks)} masks but no images: expected {LAYOUTS}")
    return images, masks, others


def _tell_apart_by_name(
    files: list[ImageFile], mask_suffix: str | None
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Images and masks that lie side by side: `x.jpg` + `x_mask.png`, or `x.jpg` + `x.png`."""
    bare = {file.path: _bare_name(file.key, _MASK_MARKS, mask_suffix) for file in files}
    # The image `face_mask.jpg` has a mask's name, but is what `face_mask_mask.png` belongs to.
    owners = {(file.part, bare[file.path]) for file in files}
    masks = [
        file
        for file in files
        if bare[file.path] is not None and (file.part, file.key) not in owners
    ]
    if not masks:
        jpegs = {(file.part, file.key) for file in files if file.path.suffix.lower() in _JPEG}
        masks = [
            file
            for file in files
            if (file.part, file.key) in jpegs and file.path.suffix.lower() not in _JPEG
        ]
    chosen = {file.path for file in masks}
    return [file for file in files if file.path not in chosen], masks


def _bare_name(key: str, marks: str, suffix: str | None = None) -> str | None:
    """The name without its mark, or None where it has none."""
    if suffix is not None:
        return key.removesuffix(suffix) if key.endswith(suffix) and key != suffix else None
    folder, slash, stem = key.rpartition("/")
    any_mark = "|".join(sorted(marks.split(), key=len, reverse=True))
    found = re.fullmatch(rf"(.+)[-_. ](?:{any_mark})", stem, re.IGNORECASE) or re.fullmatch(
        rf"(?:{any_mark})[-_. ](.+)", stem, re.IGNORECASE
    )
    return folder + slash + found[1] if found else None


def _set_aside_unlabelled_test(
    images: list[ImageFile], masks: list[ImageFile]
) -> tuple[list[ImageFile], list[ImageFile]]:
    """Competitions publish a test part without masks; it is no use here, and no mistake."""
    if any(mask.part == "test" for mask in masks):
        return images, []
    return (
        [image for image in images if image.part != "test"],
        [image for image in images if image.part == "test"],
    )


def _match(
    images: list[ImageFile], masks: list[ImageFile], root: Path, mask_suffix: str | None
) -> tuple[list[Pair], list[ImageFile], list[ImageFile]]:
    """Pair by equal names first, then by names without their marks; also gives what is left."""
    image_of, mask_of = _by_key(images, root, "images"), _by_key(masks, root, "masks")
    pairs = [
        Pair(key[0], key[1], image.path, mask_of[key].path)
        for key, image in image_of.items()
        if key in mask_of
    ]
    paired = {pair.image for pair in pairs} | {pair.mask for pair in pairs}
    images = [image for image in images if image.path not in paired]
    masks = [mask for mask in masks if mask.path not in paired]
    bare_masks = [
        replace(mask, key=_bare_name(mask.key, _MASK_MARKS, mask_suffix) or mask.key)
        for mask in masks
    ]
    bare_images = [
        replace(image, key=_bare_name(image.key, _IMAGE_MARKS) or image.key) for image in images
    ]
    mask_of = _by_key(bare_masks, root, "masks")
    whole = {image.path: image.key for image in images}
    for key, image in (
        _by_key(images, root, "images") | _by_key(bare_images, root, "images")
    ).items():
        if key in mask_of and image.path not in paired:
            pairs.append(Pair(key[0], whole[image.path], image.path, mask_of[key].path))
            paired |= {image.path, mask_of.pop(key).path}
    return (
        pairs,
        [image for image in images if image.path not in paired],
        [mask for mask in masks if mask.path not in paired],
    )


def _by_key(
    files: list[ImageFile], root: Path, what: str
) -> dict[tuple[str | None, str], ImageFile]:
    found: dict[tuple[str | None, str], ImageFile] = {}
    for file in files:
        other = found.setdefault((file.part, file.key), file)
        if other is not file:
            raise UsageError(
                f"two {what} share a name: {other.path.relative_to(root)} and "
                f"{file.path.relative_to(root)} in {root}: rename or remove one"
            )
    return found


def _refuse_lonely(images: list[ImageFile], masks: list[ImageFile], root: Path) -> None:
    lonely_images = [image.path.relative_to(root) for image in images]
    lonely_masks = [mask.path.relative_to(root) for mask in masks]
    if lonely_images and lonely_masks:
        raise UsageError(
            f"{root}: {len(lonely_images)} images have no mask ({some(lonely_images)}) and "
            f"{len(lonely_masks)} masks have no image ({some(lonely_masks)}): give an image and "
            "its mask the same name, or remove them"
        )
    if lonely_images:
        raise UsageError(
            f"{root}: {len(lonely_images)} images have no mask ({some(lonely_images)}): add their "
            "masks, or remove them"
        )
    if lonely_masks:
        raise UsageError(
            f"{root}: {len(lonely_masks)} masks have no image ({some(lonely_masks)}): add their "
            "images, or remove them"
        )
