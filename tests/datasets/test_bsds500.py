"""BSDS500: what several annotators agree on, from the original and from a copy of sums."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from image_files import photo, save
from test_folder import DATA, needs

from truemask.datasets.bsds500 import bsds500, judge
from truemask.errors import UsageError

# Five people and the pixels of a 2x6 image that each drew: 0 to 5 of them drew through each column.
DRAWN = np.array([[column > person for column in range(6)] for person in range(5)])
DRAWN = np.repeat(DRAWN[:, None], 2, axis=1)
VOTES = DRAWN.sum(0).astype(np.uint8)


def write_mat(path: Path, drawn: np.ndarray) -> None:
    """As the dataset's own files: a cell an annotator, each a struct."""
    cells = np.empty((1, len(drawn)), dtype=object)
    for place, one in enumerate(drawn):
        regions = np.ones(one.shape, dtype=np.uint16)
        cells[0, place] = {"Segmentation": regions, "Boundaries": one.astype(np.uint8)}
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"groundTruth": cells}, do_compression=True)


def write_original(root: Path, people: int = 5) -> Path:
    home = root / "BSDS500" / "data"
    for part, name in (("train", "100075"), ("val", "3096"), ("test", "2018")):
        save(home / "images" / part / f"{name}.jpg", photo(2, 6))
        write_mat(home / "groundTruth" / part / f"{name}.mat", DRAWN[:people])
        (home / "images" / part / "Thumbs.db").write_bytes(b"\0")
    return root


def write_copy(root: Path) -> Path:
    for part, name in (("train", "100075"), ("val", "3096")):
        save(root / part / "images" / f"{name}.jpg", photo(2, 6))
        save(root / part / "boundaries" / f"{name}.png", VOTES)
        (root / part / "counts.json").write_text(json.dumps({name: 5}))
    return root


both = pytest.mark.parametrize("write", [write_original, write_copy])


@both
def test_what_half_of_the_annotators_drew(tmp_path, write):
    parts = bsds500(write(tmp_path))
    assert parts["train"].labels.names == ("background", "boundary")
    # Half of five are three.
    assert parts["train"][0].mask.tolist() == [[0, 255, 255, 1, 1, 1]] * 2
    assert parts["train"].attributes == ({"annotators": "5"},)
    assert parts["validation"].names == ("3096",)
    assert parts.notes[-1] == (
        "Boundaries are what at least 0.5 of an image's annotators drew; what fewer drew is "
        "ignored."
    )


@both
@pytest.mark.parametrize(
    ("agreement", "boundaries"), [(0.01, 5), (0.2, 5), (0.21, 4), (0.6, 3), (0.61, 2), (1, 1)]
)
def test_agreement(tmp_path, write, agreement, boundaries):
    root = write(tmp_path)
    row = bsds500(root, agreement=agreement)["train"][0].mask[0].tolist()
    assert row == [0] + [255] * (5 - boundaries) + [1] * boundaries
    row = bsds500(root, agreement=agreement, doubtful="background")["train"][0].mask[0].tolist()
    assert row == [0] * (6 - boundaries) + [1] * boundaries


@pytest.mark.parametrize("asked", range(1, 10))
def test_any_share_of_any_number_of_people(asked):
    votes = np.arange(asked + 1)[None]
    for needed in range(1, asked + 1):
        verdict = judge(votes, asked=asked, agreement=needed / asked)[0]
        assert verdict.tolist() == [0] + [2] * (needed - 1) + [1] * (asked + 1 - needed)


def test_one_annotator(tmp_path):
    root = write_original(tmp_path)
    for annotator in range(1, 6):
        part = bsds500(root, annotator=annotator)["train"]
        assert np.array_equal(part[0].mask, DRAWN[annotator - 1])
    assert part.attributes == ({"annotators": "5"},)


def test_parts_of_the_original(tmp_path):
    parts = bsds500(write_original(tmp_path))
    assert [(name, part.names) for name, part in parts.items()] == [
        ("train", ("100075",)), ("validation", ("3096",)), ("test", ("2018",)),
    ]  # fmt: skip
    for inside in ("BSDS500", "BSDS500/data"):
        assert bsds500(tmp_path / inside)["test"].names == ("2018",)


@both
def test_workers_can_take_it(tmp_path, write):
    part = bsds500(write(tmp_path))["train"]
    copy = pickle.loads(pickle.dumps(part))
    assert np.array_equal(copy[0].mask, part[0].mask)
    assert copy.resized((4, 12))[0].mask.shape == (4, 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agreement": 0}, "agreement 0 must be a share over 0 and up to 1"),
        ({"agreement": 1.5}, "agreement 1.5 must be a share"),
        ({"agreement": float("nan")}, "agreement nan must be a share"),
        ({"doubtful": "boundary"}, "doubtful is 'boundary'; allowed are ignored and background"),
        ({"annotator": 0}, "annotators count from 1"),
        ({"annotator": 1, "agreement": 0.5}, "exclude each other"),
        ({"annotator": 6}, r"annotator 6: .*\.mat has only 5; choose 1 to 5"),
    ],
)
def test_unusable_options(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        bsds500(write_original(tmp_path), **options)


def test_a_copy_of_sums_knows_no_annotator(tmp_path):
    with pytest.raises(UsageError, match="annotator=2 cannot be had of it: get the original"):
        bsds500(write_copy(tmp_path), annotator=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "extract its archive again"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM", "extract its archive again"),
        ({"groundTruth": np.ones((1, 2))}, "holds no annotation of BSDS500"),
        ({"something": 1}, "holds no variable groundTruth"),
    ],
)
def test_a_broken_annotation(tmp_path, content, message):
    path = write_original(tmp_path) / "BSDS500/data/groundTruth/train/100075.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        scipy.io.savemat(path, content)
    with pytest.raises(UsageError, match=message) as caught:
        bsds500(tmp_path)["train"][0]
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("counts", [{}, {"100075": 0}, {"100075": "5"}, {"100075": True}, [5]])
def test_broken_counts(tmp_path, counts):
    path = write_copy(tmp_path) / "train" / "counts.json"
    path.write_text(json.dumps(counts))
    with pytest.raises(UsageError, match="number of annotators|how many annotators") as caught:
        bsds500(tmp_path)
    assert str(path) in str(caught.value)


def test_more_votes_than_annotators(tmp_path):
    path = write_copy(tmp_path) / "train" / "boundaries" / "100075.png"
    save(path, VOTES * 51)
    with pytest.raises(UsageError, match=r"100075\.png holds the value 255, but counts\.json says"):
        bsds500(tmp_path)["train"][0]


@both
def test_half_a_download_is_refused(tmp_path, write):
    next(write(tmp_path).rglob("3096.jpg")).unlink()
    with pytest.raises(UsageError, match=r"1 files are missing .*3096\.jpg"):
        bsds500(tmp_path)


def test_what_is_no_bsds500_folder(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UsageError, match=r"www2\.eecs\.berkeley\.edu") as caught:
            bsds500(path)
        assert "groundTruth/{train,val,test}/*.mat" in str(caught.value)


@needs("bsds500")
def test_the_real_copy():
    parts = bsds500(DATA / "bsds500")
    assert {name: len(part) for name, part in parts.items()} == {"train": 200, "validation": 100}
    people = {name: sum(int(a["annotators"]) for a in p.attributes) for name, p in parts.items()}
    assert people == {"train": 1087, "validation": 546}
    pixels = np.zeros(256, dtype=np.int64)
    for sample in parts["validation"]:
        assert sample.image.shape[1:] == sample.mask.shape
        pixels += np.bincount(sample.mask.numpy().ravel(), minlength=256)
    # The shares in percent that stand beside the data.
    boundary, drawn = pixels[1] / pixels.sum() * 100, (pixels[1] + pixels[255]) / pixels.sum() * 100
    assert (boundary, drawn) == (pytest.approx(0.66, abs=0.005), pytest.approx(6.45, abs=0.005))
