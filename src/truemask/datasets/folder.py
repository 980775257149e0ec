"""A folder of images and masks as a dataset: `folder("my_data")` and nothing else.

Opening finds the pairs, decides on the parts, and reads the masks once to work out the label map or
to hold `classes.json` against them. Images are decoded when they are asked for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from truemask.datasets.class_table import ClassTable, parse_class_table, read_class_table
from truemask.datasets.evidence import gather
from truemask.datasets.label_inference import Void, infer_labels
from truemask.datasets.label_matching import match_labels
from truemask.datasets.paired import PairedDataset
from truemask.datasets.pairing import Pair, find_pairs
from truemask.datasets.published import hinted, published_hint
from truemask.datasets.sample import Parts
from truemask.datasets.scanning import MaskScan, Progress, scan
from truemask.datasets.splitting import assign_pairs, split_pairs
from truemask.labels import LabelMap


def folder(
    root: Path | str,
    *,
    classes: Path | str | Sequence[Any] | Mapping[str, Any] | None = None,
    void: Void = None,
    split: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    assignments: Mapping[str, Sequence[str]] | None = None,
    image_folder: str | None = None,
    mask_folder: str | None = None,
    mask_suffix: str | None = None,
    progress: Progress | None = None,
) -> Parts:
    """Open a folder of images and masks.

    Args:
        root: holds `images/` + `masks/` (or names that mean the same), `train/`, `val/`, `test/`
            with those inside, or pairs such as `x.jpg` + `x_mask.png`.
        classes: names in the order of ids, the content of a `classes.json`, or the path of one;
            None for `root/classes.json`, and without it to work the classes out of the masks.
        void: the value of ignored pixels, an id or a colour, or "none"; None to tell by `classes`
            and the masks.
        split: shares of train, validation and test, for what is not split on disk.
        seed: of the split, and of the sample that is read of more than 2000 masks.
        assignments: part -> names of a saved split, to be taken as it is.
        image_folder: the name of folders that hold images, where it is an unusual one.
        mask_folder: the name of folders that hold masks, where it is an unusual one.
        mask_suffix: what the name of a mask has behind that of its image.
        progress: called with (done, total) while masks are read.

    Returns:
        The parts, which share one label map, with a note on each decision.

    Raises:
        UsageError: anything is wrong with the folder, a file, or an option; says what and where.
    """
    root = Path(root)
    table = _class_table(root, classes)
    # Who says where images and masks are, or goes on with a run, knows better.
    own = (classes, assignments, image_folder, mask_folder, mask_suffix)
    hint = "" if any(word is not None for word in own) else published_hint(root)
    with hinted(hint):
        pairs, notes = find_pairs(
            root, image_folder=image_folder, mask_folder=mask_folder, mask_suffix=mask_suffix
        )
        if assignments is None:
            parts, how = split_pairs(pairs, root, shares=split, seed=seed)
        else:
            parts, how = assign_pairs(pairs, root, assignments)
        members = [pair for part in parts.values() for pair in part]
        scans = scan(sorted(members, key=lambda pair: pair.name), seed=seed, progress=progress)
        labels, why = _label_map(table, scans, len(members), void)
    if hint:
        # Its words are to be copied: nothing stands behind them.
        notes = [*notes, f"{hint[0].upper()}{hint[1:]}"]
    datasets = {part: _dataset(tuple(chosen), labels, scans) for part, chosen in parts.items()}
    return Parts(datasets, notes=(*notes, *how, *why), division=tuple(how))


def _class_table(
    root: Path, classes: Path | str | Sequence[Any] | Mapping[str, Any] | None
) -> ClassTable | LabelMap | None:
    if isinstance(classes, Path | str):
        return read_class_table(Path(classes))
    if classes is not None:
        return parse_class_table(classes, source="classes")
    path = root / "classes.json"
    return read_class_table(path) if path.exists() else None


def _label_map(
    table: ClassTable | LabelMap | None,
    scans: Mapping[Path, MaskScan],
    total: int,
    void: Void,
) -> tuple[LabelMap, list[str]]:
    found = list(scans.values())
    evidence = gather(found, complete=len(found) == total)
    if table is None:
        labels, notes = infer_labels(evidence, void=void)
    else:
        labels, notes = match_labels(table, evidence, void=void)
    if not evidence.complete:
        notes.insert(0, f"Of {total} masks a sample of {len(found)} was read to tell the classes.")
    return labels, notes


def _dataset(
    pairs: tuple[Pair, ...], labels: LabelMap, scans: Mapping[Path, MaskScan]
) -> PairedDataset:
    if any(pair.mask not in scans for pair in pairs):
        return PairedDataset(pairs=pairs, labels=labels)
    counts = [0] * 256
    for pair in pairs:
        found = scans[pair.mask]
        for value, pixels in found.pixels.items():
            if labels.encoding == "colors" and found.shown is not None:
                value = found.shown[value]
            counts[labels.values[value]] += pixels
    return PairedDataset(
        pairs=pairs,
        labels=labels,
        class_pixels=tuple(counts[: labels.num_classes]),
        ignored_pixels=counts[labels.ignore_index],
    )
