"""Lists of images and regions, and the datasets that heed them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data.in_memory import InMemory
from truemask.data.marked import ignoring
from truemask.data.marks import RegionMark, encode_runs, match, read_marks
from truemask.errors import UsageError

REGION = {
    "what": "region", "part": "train", "name": "a", "flagged": "yes",
    "image_width": "9", "image_height": "6", "left": "2", "top": "1", "width": "4", "height": "3",
    "cell": "1", "runs": "",
}  # fmt: skip


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_runs_come_back_as_they_were(inside: np.ndarray) -> None:
    runs = tuple(tuple(map(int, word.split("+"))) for word in encode_runs(inside).split())
    height, width = inside.shape
    mark = RegionMark(
        part=None, name="a", size=(20, 20), top=0, left=0, height=height, width=width, runs=runs
    )
    assert np.array_equal(mark.inside(), inside)


def test_squares_of_two_pixels_cover_the_box_and_no_more(tmp_path: Path) -> None:
    row = REGION | {"width": "5", "height": "3", "cell": "2", "runs": "0+1 4+2"}
    (mark,) = read_marks(written(tmp_path / "list.csv", [row])).regions
    wanted = np.array([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], dtype=bool)
    assert np.array_equal(mark.inside(), wanted)


def test_names_alone_are_a_list_of_images(tmp_path: Path) -> None:
    marks = read_marks(written(tmp_path / "list.csv", [{"name": "a"}, {"name": "b"}]))
    assert [mark.name for mark in marks.images] == ["a", "b"]
    assert marks.regions == ()


def test_what_is_not_flagged_is_left_alone_and_counted(tmp_path: Path) -> None:
    rows = [{"name": "a", "flagged": "no"}, {"name": "b", "flagged": "Yes"}]
    marks = read_marks(written(tmp_path / "list.csv", rows))
    assert [mark.name for mark in marks.images] == ["b"]
    assert marks.unflagged == 1


def test_a_byte_order_mark_of_a_spreadsheet_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("\ufeffname,flagged\r\na,yes\r\n", encoding="utf-8")
    assert [mark.name for mark in read_marks(file).images] == ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flagged": "maybe"}, "flagged is 'maybe'"),
        ({"what": "picture"}, "what is 'picture'"),
        ({"name": ""}, "name is empty"),
        ({"left": "-1"}, "left is '-1'"),
        ({"width": "0"}, "width is '0'"),
        ({"left": "6"}, "beyond image_width, 9"),
        ({"runs": "0:5"}, "runs holds '0:5'"),
        ({"runs": "11+2"}, "the run 11+2 leaves the box"),
    ],
)
def test_a_line_that_means_nothing_is_an_error_that_names_it(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    file = written(tmp_path / "list.csv", [REGION, REGION | change])
    with pytest.raises(UsageError, match="line 3") as caught:
        read_marks(file)
    assert message in str(caught.value)


def test_an_unknown_column_is_an_error_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'flaged', did you mean|flagged"):
        read_marks(written(tmp_path / "list.csv", [{"name": "a", "flaged": "no"}]))


def test_unknown_names_and_other_parts_are_errors(tmp_path: Path) -> None:
    parts = {"train": ["a"], "test": ["b"]}
    file = written(tmp_path / "list.csv", [{"name": "c"}])
    with pytest.raises(UsageError, match="no image called c"):
        match(read_marks(file).images, parts, file=file)
    file = written(tmp_path / "list.csv", [{"name": "b", "part": "train"}])
    with pytest.raises(UsageError, match="b is in the test part here, not in train"):
        match(read_marks(file).images, parts, file=file)


def test_regions_become_ignored_and_nothing_else_changes() -> None:
    plain = InMemory(["a", "b"], [np.ones((6, 9), np.uint8)] * 2)
    mark = RegionMark(part=None, name="a", size=(6, 9), top=1, left=2, height=3, width=4)
    edited = ignoring(plain, [mark], digest="x", own_size=True)
    wanted = np.ones((6, 9), np.uint8)
    wanted[1:4, 2:6] = 255
    assert np.array_equal(np.asarray(edited[0].mask), wanted)
    assert np.array_equal(np.asarray(edited.mask(0)), wanted)
    assert np.array_equal(np.asarray(edited[1].mask), np.asarray(plain[1].mask))
    assert np.array_equal(np.asarray(edited[0].image), np.asarray(plain[0].image))
    assert np.asarray(plain[0].mask).max() == 1, "the dataset's own mask was changed in place"


def test_resizing_before_or_after_ignoring_gives_the_same_masks() -> None:
    random = np.random.default_rng(0)
    plain = InMemory(["a"], [random.integers(0, 3, (12, 18)).astype(np.uint8)])
    runs = ((3, 9), (20, 17))
    mark = RegionMark(
        part=None, name="a", size=(12, 18), top=3, left=5, height=6, width=8, runs=runs
    )
    before = ignoring(plain, [mark], digest="x", own_size=True)
    for size in ((7, 11), (24, 36), (12, 18)):
        after = np.asarray(before.resized(size)[0].mask)
        rows = ((np.arange(size[0]) + 0.5) * 12 / size[0]).astype(int)
        columns = ((np.arange(size[1]) + 0.5) * 18 / size[1]).astype(int)
        assert np.array_equal(after, np.asarray(before[0].mask)[np.ix_(rows, columns)])


def test_a_region_of_a_mask_of_another_size_is_refused() -> None:
    plain = InMemory(["a"], [np.ones((6, 9), np.uint8)])
    mark = RegionMark(part=None, name="a", size=(9, 6), top=0, left=0, height=1, width=1, line=4)
    with pytest.raises(
        UsageError, match=r"line 4 of its list.* 6 x 9 pixels, but the mask has 9 x"
    ):
        ignoring(plain, [mark], digest="x", own_size=True)[0]
