"""Generated copies of the driving datasets, in the folders and files of the real ones.

Each writer is a generator that yields after every image. What an image shows, and in which part it
is, depends on the seed and its number only.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from truemask.files import write_json
from truemask.miniatures.files import (
    hexadecimal,
    save_mask,
    save_palette_mask,
    save_photo,
)
from truemask.miniatures.kinds import CITYSCAPES, Kind, cityscapes_ids, train_ids
from truemask.miniatures.scenes import Canvas, generator
from truemask.miniatures.street import take_picture
from truemask.miniatures.view import Light
from truemask.miniatures.world import PLACES, build_world

_WEATHER = ("clear", "overcast", "partly cloudy", "rainy", "snowy", "foggy", "undefined")
_WEATHER_SHARES = (0.5, 0.17, 0.1, 0.08, 0.07, 0.02, 0.06)
_TIMES = ("daytime", "night", "dawn/dusk", "undefined")
_TIME_SHARES = (0.6, 0.28, 0.1, 0.02)
_FREQUENT = (
    Kind.PARKING, Kind.BUS, Kind.TRUCK, Kind.MOTORCYCLE, Kind.WALL, Kind.FENCE, Kind.POLE_GROUP,
    Kind.DYNAMIC, Kind.TRAIN, Kind.GROUND, Kind.TRAFFIC_LIGHT, Kind.SIGN, Kind.BICYCLE, Kind.STATIC,
)  # fmt: skip
_RARE = (
    Kind.CARAVAN, Kind.TRAILER, Kind.TUNNEL, Kind.GUARD_RAIL, Kind.BRIDGE, Kind.RAIL_TRACK,
)  # fmt: skip


def _extras(number: int, *, rare: bool = True) -> tuple[Kind, ...]:
    """What an image is to show so that every class occurs, some of them rarely."""
    chosen = []
    if number % 2 == 0:
        chosen.append(_FREQUENT[number // 2 % len(_FREQUENT)])
    if rare and number % 8 == 3:
        chosen.append(_RARE[number // 8 % len(_RARE)])
    return tuple(chosen)


def _some_light(random: np.random.Generator) -> Light:
    return Light(
        _WEATHER[int(random.choice(len(_WEATHER), p=_WEATHER_SHARES))],
        _TIMES[int(random.choice(len(_TIMES), p=_TIME_SHARES))],
    )


def _cityscapes_palette() -> UInt8[np.ndarray, "ids 3"]:
    return np.array([row[1] for row in CITYSCAPES] + [(0, 0, 142)], dtype=np.uint8)


def write_bdd100k(root: Path, images: int, seed: int) -> Iterator[None]:
    """BDD100K's 10K images with `sem_seg` masks, and the records of `det_20` that tell the scene.

    As in the real data not every image has a record, records exist of images that are not among
    these, a few stand in the other part's file, and in a few masks the road is labelled wrongly.
    """
    table = train_ids()
    records: dict[str, list[dict[str, object]]] = {"train": [], "val": []}
    for number in range(images):
        random = generator(seed, "bdd100k", number)
        name = f"{hexadecimal(seed, 8, 'a', number)}-{hexadecimal(seed, 8, 'b', number)}"
        part = "val" if number % 5 == 4 else "train"
        scene = _bdd_scene(random, number)
        light = _some_light(random)
        place = PLACES["country road" if scene == "undefined" else scene]
        extras = (Kind.TUNNEL,) if scene == "tunnel" else _extras(number, rare=False)
        world = build_world(random, place, light, extras=extras)
        bonnet = random.uniform() < 0.25
        image, canvas = take_picture(world, random, width=320, height=180, bonnet=bonnet)
        mask = table[canvas.classes]
        if number % 24 == 12:
            mask[mask == 0] = (255, 1, 8)[number // 24 % 3]
        save_photo(root / "images" / "10k" / part / f"{name}.jpg", image)
        save_mask(root / "labels" / "sem_seg" / "masks" / part / f"{name}.png", mask)
        record = _bdd_record(name, scene, light)
        if number % 20 == 8:
            other = hexadecimal(seed, 16, "elsewhere", number)
            records[part].append({**record, "name": f"{other[:8]}-{other[8:]}.jpg"})
        if number % 8 != 6:
            moved = number % 40 == 2
            records["val" if (part == "val") != moved else "train"].append(record)
        yield
    for part, found in records.items():
        (root / "labels" / "det_20").mkdir(parents=True, exist_ok=True)
        found.sort(key=lambda record: str(record["name"]))
        write_json(root / "labels" / "det_20" / f"det_{part}.json", found)


def _bdd_scene(random: np.random.Generator, number: int) -> str:
    usual = ("city street", "highway", "residential")
    scene = usual[int(random.choice(3, p=(0.6, 0.26, 0.14)))]
    rare = {7: "parking lot", 19: "tunnel", 26: "gas stations", 33: "undefined"}
    return rare.get(number % 40, scene)


def _bdd_record(name: str, scene: str, light: Light) -> dict[str, object]:
    return {
        "name": f"{name}.jpg",
        "attributes": {"weather": light.weather, "timeofday": light.timeofday, "scene": scene},
        "timestamp": 10000,
        "labels": [],
    }


def write_cityscapes(root: Path, images: int, seed: int) -> Iterator[None]:
    """Cityscapes: photographs by city, with label ids, colours and instance ids."""
    train = ("aachen", "bremen", "hamburg", "jena", "stuttgart", "zurich")
    val = ("frankfurt", "lindau", "munster")
    table, palette = cityscapes_ids(), _cityscapes_palette()
    for number in range(images):
        random = generator(seed, "cityscapes", number)
        part, cities = ("val", val) if number % 5 == 4 else ("train", train)
        city = cities[number // 5 % len(cities)]
        light = Light(("clear", "overcast", "partly cloudy")[int(random.integers(3))])
        place = PLACES["city street" if random.uniform() < 0.72 else "residential"]
        world = build_world(random, place, light, extras=_extras(number))
        image, canvas = take_picture(world, random, width=256, height=128, bonnet=True)
        ids = table[canvas.classes]
        ids[0], ids[:, [0, -1]] = 2, 3
        colors = np.dstack([palette[ids], np.full(ids.shape, 255, dtype=np.uint8)])
        stem = f"{city}_{number:06d}_000019"
        folder = root / "gtFine" / part / city
        save_photo(root / "leftImg8bit" / part / city / f"{stem}_leftImg8bit.png", image)
        save_mask(folder / f"{stem}_gtFine_labelIds.png", ids)
        save_mask(folder / f"{stem}_gtFine_color.png", colors)
        save_mask(folder / f"{stem}_gtFine_instanceIds.png", _instances(canvas, ids))
        yield


def _instances(canvas: Canvas, ids: UInt8[np.ndarray, "H W"]) -> UInt16[np.ndarray, "H W"]:
    """Label ids, and for what can be counted 1000 times the id, plus a number."""
    instances = ids.astype(np.uint16)
    for label in np.unique(ids[ids >= 24]).tolist():
        here = ids == label
        _, order = np.unique(canvas.objects[here], return_inverse=True)
        instances[here] = label * 1000 + np.minimum(order, 999)
    return instances


def write_gta5(root: Path, images: int, seed: int) -> Iterator[None]:
    """GTA5: numbered frames of a game, and label ids under Cityscapes' palette.

    As in the real data some frames have another size, and a few labels are not of their image's.
    """
    table, palette = cityscapes_ids(), _cityscapes_palette()
    # The game's masks have a colour for static things, which Cityscapes draws black.
    palette[4] = 20
    scenes = ("city street", "city street", "residential", "highway", "country road")
    for number in range(images):
        random = generator(seed, "gta5", number)
        place = PLACES[scenes[int(random.integers(len(scenes)))]]
        light = _some_light(random)
        world = build_world(random, place, light, extras=_extras(number), horizon=0.42)
        width, height = (160, 90) if number % 20 == 13 else (240, 132)
        image, canvas = take_picture(world, random, width=width, height=height)
        ids = table[canvas.classes]
        if number % 60 == 17:
            smaller = Image.fromarray(ids).resize((238, 130), Image.Resampling.NEAREST)
            ids = np.asarray(smaller)
        save_photo(root / "images" / f"{number + 1:05d}.png", image)
        save_palette_mask(root / "labels" / f"{number + 1:05d}.png", ids, palette)
        yield


_FOLDER_CLASSES: tuple[tuple[str, tuple[int, int, int], Sequence[int]], ...] = (
    ("ground", (128, 64, 128), range(6, 11)),
    ("building", (70, 70, 70), range(11, 17)),
    ("object", (220, 220, 0), range(17, 21)),
    ("nature", (107, 142, 35), range(21, 23)),
    ("sky", (70, 130, 180), range(23, 24)),
    ("person", (220, 20, 60), range(24, 26)),
    ("vehicle", (0, 0, 142), range(26, 34)),
)


def write_folder(root: Path, images: int, seed: int) -> Iterator[None]:
    """A folder as anybody has one: `images/`, `masks/` and `classes.json`."""
    group = {label: i for i, row in enumerate(_FOLDER_CLASSES) for label in row[2]}
    table = np.array([group.get(int(label), 255) for label in cityscapes_ids()], dtype=np.uint8)
    for number in range(images):
        random = generator(seed, "folder", number)
        place = PLACES["city street" if random.uniform() < 0.6 else "residential"]
        light = Light(("clear", "overcast", "partly cloudy")[int(random.integers(3))])
        world = build_world(random, place, light, extras=_extras(number, rare=False))
        image, canvas = take_picture(world, random, width=192, height=128)
        save_photo(root / "images" / f"street_{number:04d}.jpg", image)
        save_mask(root / "masks" / f"street_{number:04d}.png", table[canvas.classes])
        yield
    classes = [
        {"id": i, "name": row[0], "color": list(row[1])} for i, row in enumerate(_FOLDER_CLASSES)
    ]
    write_json(root / "classes.json", {"classes": classes, "ignore_id": 255, "ignore_name": "void"})
