"""Generated copies of the datasets of photographs: VOC, Oxford pets, Carvana, BSDS500."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from truemask.files import write_json, write_text
from truemask.miniatures.files import (
    hexadecimal,
    save_mask,
    save_palette_mask,
    save_photo,
)
from truemask.miniatures.nature import draw_landscape
from truemask.miniatures.objects import VOC_CLASSES, Style, draw_objects, draw_pet
from truemask.miniatures.scenes import Mask, borders, generator, outlines
from truemask.miniatures.studio import VIEWS, StudioCar, photograph_car

_YEARS = 5
_SIZES = ((125, 94), (94, 125), (125, 94), (125, 83), (94, 125), (125, 100), (120, 90), (83, 125))


def voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """VOC's colours: the bits of an id, dealt to red, green and blue from the highest bit down."""
    ids = np.arange(256)
    colors = np.zeros((256, 3), dtype=np.int64)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= (ids >> (3 * (bit % 3) + channel) & 1) << (7 - bit)
        if bit % 3 == 2:
            ids = ids >> 9
    return colors.astype(np.uint8)


def write_voc2012(root: Path, images: int, seed: int) -> Iterator[None]:
    """PASCAL VOC 2012: images of the years 2007 to 2011, which differ in what they look like."""
    names = [f"{2007 + i % _YEARS}_{_voc_number(i // _YEARS):06d}" for i in range(images)]
    styles = [_year_style(i % _YEARS) for i in range(images)]
    return _write_voc(root / "VOCdevkit" / "VOC2012", names, styles, seed)


def write_voc2007(root: Path, images: int, seed: int) -> Iterator[None]:
    """PASCAL VOC 2007: images without a year in their names."""
    names = [f"{_voc_number(i):06d}" for i in range(images)]
    return _write_voc(root / "VOCdevkit" / "VOC2007", names, [_year_style(0)] * images, seed)


def _voc_number(place: int) -> int:
    return 32 + 9 * place + place * place % 7


def _year_style(year: int) -> Style:
    """Later years show more and smaller objects, in colder and paler colours."""
    late = year / (_YEARS - 1)
    return Style(
        size=1.36 - 0.3 * late,
        company=0.5 + 0.6 * late,
        clutter=3 + 4 * late,
        contrast=1.15 - 0.3 * late,
        tint=(1.06 - 0.12 * late, 1.0, 0.93 + 0.14 * late),
        grain=2 + 4 * late,
    )


def _write_voc(root: Path, names: list[str], styles: list[Style], seed: int) -> Iterator[None]:
    sets: dict[str, list[str]] = {"train": [], "val": [], "trainval": []}
    palette = voc_palette()
    for number, (name, style) in enumerate(zip(names, styles, strict=True)):
        random = generator(seed, root.name, number)
        main = VOC_CLASSES[(number // _YEARS + 4 * (number % _YEARS)) % len(VOC_CLASSES)]
        width, height = _SIZES[int(random.integers(len(_SIZES)))]
        picture = draw_objects(random, main, width=width, height=height, style=style)
        save_photo(root / "JPEGImages" / f"{name}.jpg", picture.image)
        void = outlines(picture.objects)
        for folder, ids in (("SegmentationClass", picture.classes),
                            ("SegmentationObject", picture.objects)):  # fmt: skip
            mask = np.where(void, 255, ids).astype(np.uint8)
            save_palette_mask(root / folder / f"{name}.png", mask, palette)
        part = ("train", "val")[number if number < 2 else int(random.integers(2))]
        sets[part].append(name)
        sets["trainval"].append(name)
        if number % 20 == 7:
            # Most images of the real data have no mask.
            save_photo(root / "JPEGImages" / f"{name[:-6]}{900_000 + number}.jpg", picture.image)
        yield
    for part, chosen in sets.items():
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{name}\n" for name in sorted(chosen))
        write_text(root / "ImageSets" / "Segmentation" / f"{part}.txt", lines)


# In the order of their class ids; cats are written with a capital.
_BREEDS = (
    "Abyssinian", "american_bulldog", "american_pit_bull_terrier", "basset_hound", "beagle",
    "Bengal", "Birman", "Bombay", "boxer", "British_Shorthair", "chihuahua", "Egyptian_Mau",
    "english_cocker_spaniel", "english_setter", "german_shorthaired", "great_pyrenees",
    "havanese", "japanese_chin", "keeshond", "leonberger", "Maine_Coon", "miniature_pinscher",
    "newfoundland", "Persian", "pomeranian", "pug", "Ragdoll", "Russian_Blue", "saint_bernard",
    "samoyed", "scottish_terrier", "shiba_inu", "Siamese", "Sphynx", "staffordshire_bull_terrier",
    "wheaten_terrier", "yorkshire_terrier",
)  # fmt: skip


def write_oxford_pet(root: Path, images: int, seed: int) -> Iterator[None]:
    """Oxford-IIIT Pet: one cat or dog each, with a trimap: 1 pet, 2 background, 3 border."""
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for number in range(images):
        random = generator(seed, "oxford_pet", number)
        breed = number % len(_BREEDS)
        name = f"{_BREEDS[breed]}_{number // len(_BREEDS) + 1}"
        width, height = _SIZES[int(random.integers(len(_SIZES)))]
        cat = name[0].isupper()
        picture = draw_pet(random, breed, cat, width=width, height=height)
        trimap = np.where(picture.objects == 1, 1, 2).astype(np.uint8)
        trimap[borders(picture.objects)] = 3
        save_photo(root / "images" / f"{name}.jpg", picture.image)
        save_mask(root / "annotations" / "trimaps" / f"{name}.png", trimap)
        part = "test" if (number + number // len(_BREEDS)) % 2 else "trainval"
        lines[part].append(f"{name} {breed + 1} {1 if cat else 2} {_within_species(breed)}\n")
        yield
    header = "#Image CLASS-ID SPECIES BREED ID\n#SPECIES: 1 cat, 2 dog\n"
    everything = sorted(lines["trainval"] + lines["test"], key=str.lower)
    write_text(root / "annotations" / "list.txt", header + "".join(everything))
    for part, chosen in lines.items():
        write_text(root / "annotations" / f"{part}.txt", "".join(sorted(chosen, key=str.lower)))


def _within_species(breed: int) -> int:
    """The number of a breed among the cats, or among the dogs, from 1."""
    cat = _BREEDS[breed][0].isupper()
    return sum(name[0].isupper() == cat for name in _BREEDS[: breed + 1])


def write_carvana(root: Path, images: int, seed: int) -> Iterator[None]:
    """Carvana: 16 views of each car, masks as GIF, and their run lengths in a table."""
    black_white = np.array([(0, 0, 0), (255, 255, 255)], dtype=np.uint8)
    rows = []
    for number in range(images):
        car, view = divmod(number, VIEWS)
        name = f"{hexadecimal(seed, 12, 'car', car)}_{view + 1:02d}"
        random = generator(seed, "carvana", number)
        studio_car = StudioCar.by_number(seed, car)
        image, mask = photograph_car(studio_car, view, random, width=240, height=160)
        save_photo(root / "train" / f"{name}.jpg", image)
        path = root / "train_masks" / f"{name}_mask.gif"
        save_palette_mask(path, mask.astype(np.uint8), black_white)
        rows.append(f"{name}.jpg,{_run_lengths(mask)}\n")
        yield
    write_text(root / "train_masks.csv", "img,rle_mask\n" + "".join(sorted(rows)))


def _run_lengths(mask: Mask) -> str:
    """Start and length of each run of the mask, row after row, counted from 1."""
    flat = np.concatenate([[False], mask.ravel(), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = changes[::2], changes[1::2]
    runs = np.stack([starts, ends - starts], axis=1).ravel()
    return " ".join(str(value) for value in runs.tolist())


def write_bsds500(root: Path, images: int, seed: int) -> Iterator[None]:
    """BSDS500: landscapes, how many people outlined each pixel, and the first one's regions."""
    counts: dict[str, dict[str, int]] = {"train": {}, "val": {}}
    for number in range(images):
        random = generator(seed, "bsds500", number)
        part = "val" if number % 3 == 2 else "train"
        name = str(2018 + number * 7919 % 388_000)
        width, height = (161, 107) if random.uniform() < 0.68 else (107, 161)
        drawn = draw_landscape(random, width=width, height=height)
        save_photo(root / part / "images" / f"{name}.jpg", drawn.image)
        save_mask(root / part / "boundaries" / f"{name}.png", drawn.boundaries)
        save_mask(root / part / "segmentations" / f"{name}.png", drawn.first)
        counts[part][name] = drawn.people
        yield
    for part, found in counts.items():
        write_json(root / part / "counts.json", dict(sorted(found.items())))
