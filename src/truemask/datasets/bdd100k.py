"""BDD100K's 10K images with semantic masks, and what is known of their scenes.

Yu et al., "BDD100K: A Diverse Driving Dataset for Heterogeneous Multitask Learning", CVPR 2020.

The scene, the weather and the time of day stand in the labels of another task, the detection of
2020 on the 100K images, which has about two fifths of the 10K images.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from truemask.datasets.cityscapes import CLASSES
from truemask.datasets.lists import find_home, require_folder
from truemask.datasets.pairing import Pair
from truemask.datasets.part_folders import files_ending, own_parts, pairs_in
from truemask.datasets.sample import Parts
from truemask.errors import UsageError

SOURCE = (
    "https://doc.bdd100k.com/download.html (free registration; '10K Images', 'Segmentation', and "
    "'Detection 2020 Labels' for the scenes)"
)
LAYOUT = "images/10k/{train,val}/*.jpg + labels/sem_seg/masks/{train,val}/*.png"

CITY_SCENE = "city street"
UNDEFINED = "undefined"

_ATTRIBUTES = ("scene", "weather", "timeofday")
_CHUNK = 1 << 22
_BETWEEN = frozenset(" \t\r\n,")
_WAY_OUT = (
    "it must be the list of records of BDD100K's 'Detection 2020 Labels', each with name and "
    "attributes"
)

Attributes = dict[str, dict[str, str]]
"""Image name -> what is known of it."""


def bdd100k(root: Path | str, *, require_scene: bool = False) -> Parts:
    """Open the 10K images of BDD100K.

    Where the detection labels know an image, its attributes are `scene`, `weather` and
    `timeofday` in BDD100K's own words ("undefined" is one of them), and `area`: "city" where the
    scene is a city street and "non-city" where it is another; it is absent where the scene is
    undefined.

    Args:
        root: holds `images/` and `labels/`, or a `bdd100k/` with those.
        require_scene: keep only images whose scene the detection labels state, which are 3426.

    Raises:
        UsageError: the folder does not look like BDD100K, files are missing, or the detection
            labels are unreadable or, if scenes are required, absent.
    """
    known = {"dataset": "BDD100K", "source": SOURCE, "layout": LAYOUT}
    home = find_home(Path(root), ("", "bdd100k"), "images/10k", **known)
    masks = require_folder(home / "labels" / "sem_seg" / "masks", **known)
    attributes, notes = _read_attributes(home, require_scene)
    pairs = [
        pair
        for folder, part in (("train", "train"), ("val", "validation"))
        for pair in pairs_in(
            home / "images" / "10k" / folder,
            masks / folder,
            part=part,
            image_endings=(".jpg",),
            mask_ending=".png",
            attributes=lambda name: attributes.get(name, {}),
        )
    ]
    chosen = [pair for pair in pairs if "scene" in pair.attributes] if require_scene else pairs
    if pairs and not chosen:
        raise UsageError(
            f"{home / 'labels' / 'det_20'} states the scene of none of the {len(pairs)} images: "
            f"extract 'Detection 2020 Labels' of {SOURCE.split()[0]} again, or set "
            "require_scene=false"
        )
    return own_parts(
        chosen,
        CLASSES,
        root=home,
        layout=LAYOUT,
        how="are BDD100K's own",
        notes=(*notes, *_what_is_left_out(home, pairs, chosen)),
    )


def _what_is_left_out(home: Path, pairs: list[Pair], chosen: list[Pair]) -> list[str]:
    notes = []
    stated = sum("scene" in pair.attributes for pair in pairs)
    if len(chosen) < len(pairs):
        notes.append(f"Of {len(pairs)} images {len(pairs) - stated} have no scene: left out.")
    elif 0 < stated < len(pairs):
        notes.append(f"The scene of {stated} of {len(pairs)} images is known.")
    unlabelled = files_ending(home / "images" / "10k" / "test", ".jpg")
    if unlabelled:
        notes.append(f"The test part has no masks: its {len(unlabelled)} images were left out.")
    return notes


def _read_attributes(home: Path, require_scene: bool) -> tuple[Attributes, list[str]]:
    """The attributes of the 10K images by name, and notes on what is not there.

    Both files are read for both parts, because the 10K and the 100K images are divided differently.
    """
    images = home / "images" / "10k"
    wanted = {name for part in ("train", "val") for name in files_ending(images / part, ".jpg")}
    found: Attributes = {}
    lost = []
    for path in (home / "labels" / "det_20" / f"det_{part}.json" for part in ("train", "val")):
        if path.is_file():
            found |= _attributes_in(path, wanted)
        else:
            lost.append(path)
    if lost and require_scene:
        raise UsageError(
            f"{lost[0]} is missing, which states the scenes: get 'Detection 2020 Labels' from "
            f"{SOURCE.split()[0]}, or set require_scene=false"
        )
    names = " and ".join(path.relative_to(home).as_posix() for path in lost)
    return found, [f"Without {names} the scenes of images are unknown."] if lost else []


def _attributes_in(path: Path, wanted: set[str]) -> Attributes:
    found: Attributes = {}
    for place, record in enumerate(_records(path)):
        name = record.get("name")
        if not isinstance(name, str):
            raise UsageError(f"{path}: record {place} has no name; {_WAY_OUT}")
        stem = name.removesuffix(".jpg")
        if stem in wanted:
            found[stem] = _own_words(record.get("attributes"))
    return found


def _own_words(attributes: object) -> dict[str, str]:
    stated: Mapping[str, Any] = attributes if isinstance(attributes, dict) else {}
    words = {key: stated[key] for key in _ATTRIBUTES if isinstance(stated.get(key), str)}
    scene = words.get("scene", UNDEFINED)
    if scene != UNDEFINED:
        words["area"] = "city" if scene == CITY_SCENE else "non-city"
    return words


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, one at a time: all of them at once would fill gigabytes.

    Raises:
        UsageError: the file is unreadable, or no list of JSON objects.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _objects(file, path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not valid JSON: it is no UTF-8 text") from error


def _objects(file: TextIO, path: Path) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    text, start, size = file.read(_CHUNK).lstrip(), 1, _CHUNK
    if not text.startswith("["):
        raise UsageError(f"{path} is no JSON list: {_WAY_OUT}")
    while True:
        while text[start : start + 1] in _BETWEEN:
            start += 1
        if text.startswith("]", start):
            return
        try:
            record, start = decoder.raw_decode(text, start)
            size = _CHUNK
        except (ValueError, RecursionError) as error:
            more = file.read(size)
            if not more:
                raise UsageError(f"{path} is not valid JSON: {error}; extract it again") from error
            # Twice as much each time, so that a broken file is not read again and again.
            text, start, size = text[start:] + more, 0, 2 * size
            continue
        if not isinstance(record, dict):
            raise UsageError(f"{path} holds {str(record)[:40]!r} in its list: {_WAY_OUT}")
        yield record
