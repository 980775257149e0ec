"""PASCAL VOC in its real layout, held against torchvision and the definition of its colours."""

import io
import shutil
import tarfile

import numpy as np
import pytest
from image_files import blocks, photo, save, save_palette
from PIL import Image
from torchvision.datasets import VOCSegmentation
from torchvision.datasets.voc import DATASET_YEAR_DICT
from torchvision.models._meta import _VOC_CATEGORIES

from truemask.datasets import downloads
from truemask.datasets import voc as module
from truemask.datasets.voc import LABELS, voc
from truemask.errors import JobFailed, UsageError

LISTS_2012 = {"train": ["2008_000008", "2007_000032"], "val": ["2007_000033"]}
LISTS_2007 = {"train": ["000042"], "val": ["000032", "000033"], "test": ["000068"]}
MASKS = {
    "2008_000008": (0, 13, 255, 15), "2007_000032": (0, 1, 255), "2007_000033": (20, 0),
    "000042": (0, 19), "000032": (1, 255), "000033": (0,), "000068": (3, 0),
}  # fmt: skip


def voc_color(index):
    """The colour of an index, of whose bits each third one belongs to one channel, lowest first."""
    channels = [0, 0, 0]
    for bit in range(8):
        channels[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return tuple(channels)


def write(root, year="2012", lists=None):
    """`root/VOCdevkit/VOC2012`, as the archives of this year leave it."""
    home = root / "VOCdevkit" / f"VOC{year}"
    lists = lists or (LISTS_2012 if year == "2012" else LISTS_2007)
    (home / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name, members in lists.items():
        path = home / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.write_text("".join(f"{member}\n" for member in members))
        for place, member in enumerate(members):
            mask = blocks(*MASKS[member], height=9 + place, width=12)
            save(home / "JPEGImages" / f"{member}.jpg", photo(*mask.shape, seed=place))
            path = home / "SegmentationClass" / f"{member}.png"
            save_palette(path, mask, [voc_color(index) for index in range(256)])
    # What is in the archives besides.
    save(home / "SegmentationObject" / f"{member}.png", mask)
    save(home / "JPEGImages" / "2009_000001.jpg", photo(5, 5))
    return root


def packed(folder, without=()):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        left_out = {f"{name}{ending}" for name in without for ending in (".jpg", ".png", ".txt")}
        tar.add(
            folder, "VOCdevkit", filter=lambda m: None if m.name.split("/")[-1] in left_out else m
        )
    return buffer.getvalue()


def test_the_colours_are_those_of_the_definition():
    assert LABELS.colors == tuple(voc_color(index) for index in range(21))
    assert LABELS.ignore_color == voc_color(255)
    assert LABELS.names == ("background", *_VOC_CATEGORIES[1:])
    assert _VOC_CATEGORIES[0] == "__background__"
    assert LABELS.values == {**{index: index for index in range(21)}, 255: 255}


@pytest.mark.parametrize(
    ("year", "names"), [("2012", {"train": "train", "validation": "val"}),
                        ("2007", {"train": "train", "validation": "val", "test": "test"})],
)  # fmt: skip
def test_the_parts_are_those_that_torchvision_reads(tmp_path, year, names):
    parts = voc(write(tmp_path, year), year=year)
    assert list(parts) == list(names)
    sizes = "2 train, 1 validation" if year == "2012" else "1 train, 2 validation, 1 test"
    assert parts.notes[0] == f"The parts ({sizes}) are those of its lists."
    assert parts.division == parts.notes
    for part, image_set in names.items():
        theirs = VOCSegmentation(tmp_path, year=year, image_set=image_set)
        stems = [path.rpartition("/")[2][:-4] for path in theirs.images]
        by_name = {stem: theirs[index] for index, stem in enumerate(stems)}
        assert list(parts[part].names) == sorted(by_name)
        for sample in parts[part]:
            image, mask = by_name[sample.name]
            assert np.array_equal(sample.image.permute(1, 2, 0), image)
            assert np.array_equal(sample.mask, mask)
            assert set(np.unique(sample.mask)) == set(MASKS[sample.name])
            assert sample.attributes == {"year": sample.name[:4] if year == "2012" else "2007"}


def test_the_folder_may_be_any_of_three(tmp_path):
    write(tmp_path)
    wanted = voc(tmp_path)["train"].pairs
    for folder in ("VOCdevkit", "VOCdevkit/VOC2012"):
        assert voc(tmp_path / folder)["train"].pairs == wanted
        assert voc(str(tmp_path / folder))["train"].pairs == wanted


def test_a_missing_folder_says_where_to_get_the_data(tmp_path):
    with pytest.raises(UsageError) as caught:
        voc(tmp_path / "nothing")
    assert str(caught.value) == (
        f"{tmp_path / 'nothing'} does not exist, so PASCAL VOC 2012 is not there: it must look "
        "like VOCdevkit/VOC2012/{ImageSets/Segmentation,JPEGImages,SegmentationClass}/; get the "
        "data from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ (free, no registration), or let "
        "download=true fetch it"
    )
    with pytest.raises(UsageError, match=r"is no PASCAL VOC 2007 folder: no VOCdevkit/VOC2007/Im"):
        voc(write(tmp_path), year="2007")
    shutil.rmtree(tmp_path / "VOCdevkit/VOC2012/SegmentationClass")
    with pytest.raises(UsageError, match=r"VOC2012 is no PASCAL.*: no SegmentationClass in it"):
        voc(tmp_path)


def test_another_year_is_refused(tmp_path):
    with pytest.raises(UsageError, match="year is '2010'; allowed are 2007 and 2012"):
        voc(tmp_path, year="2010")


def test_missing_files_are_named(tmp_path):
    home = write(tmp_path) / "VOCdevkit" / "VOC2012"
    (home / "JPEGImages" / "2007_000032.jpg").unlink()
    (home / "SegmentationClass" / "2008_000008.png").unlink()
    with pytest.raises(UsageError) as caught:
        voc(tmp_path)
    assert str(caught.value) == (
        f"{home / 'ImageSets/Segmentation/train.txt'} names 2 images with masks, of which 2 files "
        f"are missing ({home / 'JPEGImages/2007_000032.jpg'}, "
        f"{home / 'SegmentationClass/2008_000008.png'}): extract the whole archive again"
    )
    (home / "ImageSets" / "Segmentation" / "val.txt").unlink()
    (home / "ImageSets" / "Segmentation" / "train.txt").unlink()
    with pytest.raises(UsageError, match=r"train\.txt is missing: extract the archive"):
        voc(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"2007_000032\n\n2007_000032\n", r"lists 2007_000032 more than once: remove"),
        (b"2007_000032\n2007_000033\n", r"name 2007_000033 more than once, so that an image would"),
        (b"# nothing\n\n", r"train\.txt lists no images"),
        (b"\xff\xfe\x00\x01", r"train\.txt is no text file"),
    ],
)
def test_a_list_that_is_none(tmp_path, content, message):
    home = write(tmp_path) / "VOCdevkit" / "VOC2012"
    (home / "ImageSets" / "Segmentation" / "train.txt").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        voc(tmp_path)


def test_a_list_may_have_comments_and_the_line_ends_of_another_system(tmp_path):
    home = write(tmp_path) / "VOCdevkit" / "VOC2012"
    text = b"\xef\xbb\xbf# mine\r\n  2008_000008  1\r\n\r\n2007_000032"
    (home / "ImageSets" / "Segmentation" / "train.txt").write_bytes(text)
    assert voc(tmp_path)["train"].names == ("2007_000032", "2008_000008")


def test_a_test_part_without_masks_is_left_out(tmp_path):
    home = write(tmp_path, "2007") / "VOCdevkit" / "VOC2007"
    (home / "SegmentationClass" / "000068.png").unlink()
    parts = voc(tmp_path, year="2007")
    assert list(parts) == ["train", "validation"]
    assert parts.notes[-1] == "The test part was left out: none of its 1 masks is there."
    write(tmp_path / "2012", lists=LISTS_2012 | {"test": ["000068"]})
    assert list(voc(tmp_path / "2012")) == ["train", "validation"]


def test_a_colour_that_is_no_class_is_an_error(tmp_path):
    home = write(tmp_path) / "VOCdevkit" / "VOC2012"
    save(home / "SegmentationClass" / "2007_000033.png", blocks(0, 21, height=9, width=12))
    with pytest.raises(UsageError, match=r"2007_000033\.png: value 21 \(54 pixels\)"):
        voc(tmp_path)["validation"][0]


def test_downloads_are_unpacked_where_torchvision_puts_them(tmp_path, monkeypatch):
    source = write(tmp_path / "source", "2007") / "VOCdevkit"
    contents = {
        "VOCtrainval_06-Nov-2007.tar": packed(source, without=("000068", "test")),
        "VOCtest_06-Nov-2007.tar": packed(source, without=("000042", "train", "val")),
    }
    asked = []

    def download(archive, path, progress):
        asked.append(archive)
        path.write_bytes(contents[path.name])

    monkeypatch.setattr(downloads, "receive", download)
    root = tmp_path / "root"
    for _ in range(2):
        parts = voc(root, year="2007", download=True)
        assert {part: dataset.names for part, dataset in parts.items()} == {
            "train": ("000042",), "validation": ("000032", "000033"), "test": ("000068",),
        }  # fmt: skip
    assert [(archive.url, archive.md5) for archive in asked] == [
        (DATASET_YEAR_DICT[key]["url"], DATASET_YEAR_DICT[key]["md5"])
        for key in ("2007", "2007-test")
    ]
    assert [archive.name for archive in asked] == list(contents)
    assert len(VOCSegmentation(root, year="2007", image_set="test")) == 1
    assert {path.name for path in root.iterdir()} == {"VOCdevkit", *(f"{n}.json" for n in contents)}


def test_nothing_is_fetched_where_all_is_there(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise JobFailed("asked")

    monkeypatch.setattr(module, "fetch", refuse)
    root = write(tmp_path)
    assert list(voc(root, download=True)) == ["train", "validation"]
    (root / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2007_000033.jpg").unlink()
    with pytest.raises(JobFailed, match="asked"):
        voc(root, download=True)


def test_a_mask_whose_colours_were_numbered_anew_is_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png"
    with Image.open(path) as mask:
        size = mask.size
    again = Image.new("P", size, 1)
    again.putpalette([0, 0, 0, *voc_color(15)])
    again.save(path)
    train = voc(tmp_path)["train"]
    with pytest.raises(UsageError, match=r"2007_000032\.png has another palette than VOC's"):
        train[list(train.names).index("2007_000032")]


@pytest.mark.parametrize("year", ["2007", 2007])
def test_a_year_is_a_word_or_a_number(tmp_path, year):
    write(tmp_path, "2007")
    assert len(voc(tmp_path, year=year)) == 3
    assert set(voc(tmp_path, year=year, test=False)) == {"train", "validation"}
