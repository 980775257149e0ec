"""All parts at once, however they come."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from part_material import altered, scene
from PIL import Image

from truemask.checks.data import check_dataset
from truemask.datasets.folder import folder
from truemask.errors import UsageError


def _mask(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    ids = np.zeros((96, 128), np.uint8)
    ids[:, 40 + generator.integers(-8, 8) :] = 1
    ids[60 + generator.integers(-8, 8) :, :] = 2
    return ids


def _pairs(seeds: range) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(scene(seed), _mask(seed)) for seed in seeds]


def _write(root: Path, part: str, pairs: list[tuple[np.ndarray, np.ndarray]], mark: str) -> None:
    for index, (image, mask) in enumerate(pairs):
        for kind, pixels in (("images", image), ("masks", mask)):
            path = root / part / kind / f"{mark}{chr(97 + index // 26)}{chr(97 + index % 26)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


class _Torch(torch.utils.data.Dataset):
    """Mappings of normalised tensors, one of them made by chance."""

    def __init__(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        image, mask = self.pairs[index]
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        values = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        return {"image": (values - 0.45) / 0.22, "mask": torch.from_numpy(mask).long()}


def _codes(parts: object, **options: object) -> set[str]:
    return {found.code for found in check_dataset(parts, **options)}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sound() -> dict[str, list]:
    return {"train": _pairs(range(30)), "val": _pairs(range(100, 116))}


@pytest.fixture(scope="module")
def leaking(sound: dict[str, list]) -> dict[str, list]:
    image, mask = sound["train"][4]
    copy = (altered(image, mirrored=True, quality=70), np.ascontiguousarray(mask[:, ::-1]))
    return {"train": sound["train"], "val": [*sound["val"], sound["train"][9], copy]}


def test_sound_parts_have_no_finding_about_parts(sound: dict[str, list]) -> None:
    assert not {code for code in _codes(sound, num_classes=3) if code.startswith("TM2")}


def test_lists_datasets_and_folders_give_the_same_findings(
    leaking: dict[str, list], tmp_path: Path
) -> None:
    for part, pairs in leaking.items():
        _write(tmp_path, part, pairs, part[0])
    (tmp_path / "classes.json").write_text(json.dumps(["a", "b", "c"]))
    forms = (
        leaking,
        {part: _Torch(pairs) for part, pairs in leaking.items()},
        tmp_path,
        str(tmp_path),
        folder(tmp_path),
    )
    for form in forms:
        assert {"TM201", "TM202"} == {c for c in _codes(form, num_classes=3) if c[:3] == "TM2"}


def test_of_large_parts_few_samples_are_read_and_all_images_searched(
    leaking: dict[str, list], tmp_path: Path
) -> None:
    for part, pairs in leaking.items():
        _write(tmp_path, part, pairs, part[0])
    for form in (tmp_path, leaking):
        assert {"TM201", "TM202"} <= _codes(form, num_classes=3, limit=5)


def test_what_is_not_searched_is_said(leaking: dict[str, list]) -> None:
    found = check_dataset(leaking, num_classes=3, most=40)
    for finding in found:
        if finding.code in ("TM201", "TM202"):
            assert finding.evidence["sampled"] == {"train": {"sampled": 22, "of": 30}}


def test_the_state_of_random_generators_is_as_before(leaking: dict[str, list]) -> None:
    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    expected = drawn()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    check_dataset({part: _Torch(pairs) for part, pairs in leaking.items()}, num_classes=3)
    assert drawn() == expected


def test_a_single_dataset_has_no_parts_to_compare(sound: dict[str, list]) -> None:
    assert not {c for c in _codes(sound["train"], num_classes=3) if c.startswith("TM2")}


def test_ids_beyond_the_classes_and_ignored_ones_do_not_count() -> None:
    train, val = _pairs(range(30)), _pairs(range(100, 130))
    for _, mask in val:
        mask[:50] = 255
    assert "TM204" not in _codes({"train": train, "val": train[:0] + _pairs(range(50, 70))})
    found = check_dataset({"train": train, "val": val}, num_classes=3, class_names=["a", "b", "c"])
    named = {k for f in found if f.code == "TM204" for k in f.evidence["classes"]}
    assert named <= {"a", "b", "c"}


def test_a_part_of_class_ids_beside_one_of_files_has_the_same_classes(
    sound: dict[str, list], tmp_path: Path
) -> None:
    """As in a training, whose training part is cached as class ids: 255 is no other class."""
    halves = {
        part: [(image, (mask > 0).astype(np.uint8)) for image, mask in pairs]
        for part, pairs in sound.items()
    }
    for part, pairs in halves.items():
        _write(tmp_path, part, [(image, 255 * mask) for image, mask in pairs], part[0])
    read = folder(tmp_path)
    parts = {"train": _Torch(halves["train"]), "val": read["validation"]}
    names = read["validation"].labels.names
    assert "TM204" not in _codes(parts, num_classes=2, class_names=names)


def test_no_parts_and_no_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="no parts"):
        check_dataset({})
    with pytest.raises(UsageError, match="no samples"):
        check_dataset([])
