"""How each check is called: as its users call it, on data in the style of each experiment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.faults.case import Check
from benchmarks.faults.foreign_datasets import STYLES
from benchmarks.faults.material import IGNORED, Material


def declared(material: Material) -> dict[str, Any]:
    """What a user says of the classes."""
    return {
        "num_classes": material.num_classes,
        "ignore_index": IGNORED,
        "class_names": material.classes,
    }


def datasets_of(material: Material) -> dict[str, Any]:
    """Both parts as somebody's own datasets, in the style of the experiment."""
    style = STYLES[material.name]
    return {"train": style(material.train), "validation": style(material.validation)}


def check_parts(parts: Mapping[str, Any], material: Material, **options: Any) -> Check:
    """`check_dataset` on parts."""

    def check() -> list[Any]:
        from truemask.checks.data import check_dataset

        return check_dataset(parts, **{**declared(material), **options})

    return check


def check_data(material: Material, **options: Any) -> Check:
    """`check_masks` on each part of a material."""
    parts = datasets_of(material)

    def check() -> list[Any]:
        from truemask.checks.masks import check_masks

        said = {**declared(material), **options}
        return [found for part in parts.values() for found in check_masks(part, **said)]

    return check


def check_files(source: Any, material: Material, **options: Any) -> Check:
    """`check_masks` on files, a folder, or one dataset."""

    def check() -> list[Any]:
        from truemask.checks.masks import check_masks

        return check_masks(source, **{**declared(material), **options})

    return check


def check_all(parts: Mapping[str, Any] | Path, material: Material, **options: Any) -> Check:
    """Everything that is to be said of data: of each part, and of the parts together."""
    each = parts if isinstance(parts, Mapping) else {}

    def check() -> list[Any]:
        from truemask.checks.data import check_dataset
        from truemask.checks.masks import check_masks

        said = {**declared(material), **options}
        found = [found for part in each.values() for found in check_masks(part, **said)]
        return found + check_dataset(parts, **declared(material))

    return check


def check_batches(
    loader: Any,
    material: Material,
    *,
    compare: bool = False,
    normalization: tuple[list[float], list[float]] | None = None,
    **options: Any,
) -> Check:
    """`check_loader`, beside the dataset's own samples where these are at hand.

    Args:
        loader: gives batches.
        material: what they are made of.
        compare: whether the dataset's own samples are given too.
        normalization: mean and standard deviation as declared; None to declare nothing.
        options: of `check_loader`.
    """
    if compare:
        options["dataset"] = STYLES[material.name](material.train)
    if normalization is not None:
        mean, std = normalization
        options["normalization"] = {"mean": mean, "std": std}

    def check() -> list[Any]:
        from truemask.checks.loaders import check_loader

        classes = {"num_classes": material.num_classes, "ignore_index": IGNORED}
        return check_loader(loader, **{**classes, **options})

    return check
