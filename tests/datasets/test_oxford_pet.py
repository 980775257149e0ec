"""Oxford-IIIT Pet in its real layout, held against torchvision."""

import io
import tarfile

import numpy as np
import pytest
from image_files import blocks, photo, save
from PIL import Image
from torchvision.datasets import OxfordIIITPet

from truemask.datasets import downloads
from truemask.datasets.oxford_pet import LABELS, oxford_pet
from truemask.errors import UsageError

TRAINVAL = "Egyptian_Mau_14 12 1 6\nAbyssinian_100 1 1 1\namerican_bulldog_105 2 2 1\n"
TEST = "shiba_inu_12 34 2 22\nAbyssinian_201 1 1 1\n"
ATTRIBUTES = {
    "Egyptian_Mau_14": {"species": "cat", "breed": "Egyptian Mau"},
    "Abyssinian_100": {"species": "cat", "breed": "Abyssinian"},
    "american_bulldog_105": {"species": "dog", "breed": "American Bulldog"},
    "shiba_inu_12": {"species": "dog", "breed": "Shiba Inu"},
    "Abyssinian_201": {"species": "cat", "breed": "Abyssinian"},
}


def write(home):
    """`images` and `annotations`, as the two archives leave them."""
    for seed, name in enumerate(ATTRIBUTES):
        save(home / "images" / f"{name}.jpg", photo(9 + seed, 12, seed=seed), quality=95)
        trimap = blocks(2, 3, 1, height=9 + seed, width=12)
        save(home / "annotations" / "trimaps" / f"{name}.png", trimap)
    # Junk of the real archives, and an image of no list.
    (home / "annotations" / "trimaps" / "._Abyssinian_100.png").write_bytes(b"Mac OS X")
    (home / "images" / "Abyssinian_100.mat").write_bytes(b"MATLAB")
    save(home / "images" / "Egyptian_Mau_139.jpg", photo())
    (home / "annotations" / "trainval.txt").write_text(TRAINVAL)
    (home / "annotations" / "test.txt").write_text(TEST)
    header = "#Image CLASS-ID SPECIES BREED ID\n"
    (home / "annotations" / "list.txt").write_text(header + TRAINVAL + TEST)
    return home


def packed(*folders):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for folder in folders:
            tar.add(folder, folder.name)
    return buffer.getvalue()


def test_the_parts_are_those_that_torchvision_reads(tmp_path):
    home = write(tmp_path / "oxford-iiit-pet")
    parts = oxford_pet(tmp_path)
    assert list(parts) == ["train", "test"]
    assert parts.notes == (
        "The parts (3 train, 2 test) are those of its lists.",
        "There is no validation part: data.split makes one.",
    )
    assert parts.division == parts.notes
    for part, split in (("train", "trainval"), ("test", "test")):
        target = ["segmentation", "category", "binary-category"]
        theirs = OxfordIIITPet(tmp_path, split=split, target_types=target)
        by_name = {path.stem: theirs[index] for index, path in enumerate(theirs._images)}
        dataset = parts[part]
        assert list(dataset.names) == sorted(by_name)
        for sample in dataset:
            image, (trimap, category, species) = by_name[sample.name]
            assert np.array_equal(sample.image.permute(1, 2, 0), image)
            wanted = np.array([0, 1, 0, 255])[np.array(trimap)]
            assert np.array_equal(sample.mask, wanted)
            assert sample.attributes == ATTRIBUTES[sample.name]
            assert theirs.bin_classes[species].lower() == sample.attributes["species"]
            known = {index: name for name, index in theirs.class_to_idx.items()}
            assert known.get(category, sample.attributes["breed"]) == sample.attributes["breed"]
    assert oxford_pet(home)["train"].pairs == parts["train"].pairs


def test_the_pet_is_what_is_looked_for():
    assert LABELS.names == ("background", "pet")
    assert LABELS.num_logits == 1
    assert LABELS.ignore_name == "border"


@pytest.mark.parametrize("kind", ["GIF", "PNG", "PNG with alpha", "grey", "CMYK"])
def test_images_that_are_not_what_their_ending_says(tmp_path, kind):
    home = write(tmp_path)
    path = home / "images" / "Egyptian_Mau_14.jpg"
    picture = Image.fromarray(np.repeat(photo(9, 12)[..., :1] // 64 * 64, 3, axis=2))
    if kind == "GIF":
        picture.convert("P", palette=Image.Palette.ADAPTIVE).save(path, format="GIF")
    elif kind.startswith("PNG"):
        picture.convert("RGBA" if "alpha" in kind else "RGB").save(path, format="PNG")
    else:
        mode = "L" if kind == "grey" else "CMYK"
        picture.convert(mode).save(path, format="JPEG", quality=100, subsampling=0)
    dataset = oxford_pet(home)["train"]
    sample = dataset[dataset.names.index("Egyptian_Mau_14")]
    difference = np.abs(sample.image.permute(1, 2, 0).numpy().astype(int) - np.array(picture))
    assert difference.max() <= (0 if kind in ("GIF", "PNG", "PNG with alpha") else 8)


def test_an_image_with_holes_is_named(tmp_path):
    home = write(tmp_path)
    cut_out = np.dstack([photo(9, 12), blocks(0, 255, height=9, width=12)])
    Image.fromarray(cut_out).save(home / "images" / "Egyptian_Mau_14.jpg", format="PNG")
    dataset = oxford_pet(home)["train"]
    with pytest.raises(UsageError, match=r"Egyptian_Mau_14\.jpg has 54 transparent pixels"):
        dataset[dataset.names.index("Egyptian_Mau_14")]


@pytest.mark.parametrize("line", ["Abyssinian_100 1 1", "Abyssinian_100 1 3 1", "Abyssinian 1 1 1"])
def test_a_line_that_is_none_is_shown(tmp_path, line):
    home = write(tmp_path)
    (home / "annotations" / "test.txt").write_text(f"{TEST}{line}\n")
    with pytest.raises(UsageError, match=rf"test\.txt has the line '{line}', which is not NAME CL"):
        oxford_pet(home)


def test_what_is_missing_is_told(tmp_path):
    wanted = r"no oxford-iiit-pet/annotations or annotations in it; .*images/\*\.jpg .* https://www"
    with pytest.raises(UsageError, match=wanted):
        oxford_pet(tmp_path)
    home = write(tmp_path)
    (home / "annotations" / "trimaps" / "shiba_inu_12.png").unlink()
    with pytest.raises(UsageError, match=r"test\.txt names 2 .* 1 files are missing \(.*shiba_inu"):
        oxford_pet(home)
    (home / "images").rename(home / "pictures")
    with pytest.raises(UsageError, match=r"is no Oxford-IIIT Pet folder: no images in it"):
        oxford_pet(home)
    (home / "images.tar.gz").touch()
    with pytest.raises(UsageError, match=r"images\.tar\.gz is still packed: extract it"):
        oxford_pet(home)


@pytest.mark.parametrize("inside", [False, True])
def test_downloads_are_unpacked_where_torchvision_puts_them(tmp_path, monkeypatch, inside):
    source = write(tmp_path / "source")
    contents = {
        "images.tar.gz": packed(source / "images"),
        "annotations.tar.gz": packed(source / "annotations"),
    }
    asked = []

    def download(archive, path, progress):
        asked.append((archive.url, archive.md5))
        path.write_bytes(contents[path.name])

    monkeypatch.setattr(downloads, "receive", download)
    root = tmp_path / "root"
    for _ in range(2):
        parts = oxford_pet(root / "oxford-iiit-pet" if inside else root, download=True)
        assert [len(part) for part in parts.values()] == [3, 2]
    assert asked == list(OxfordIIITPet._RESOURCES)
    assert len(OxfordIIITPet(root, split="test", target_types="segmentation")) == 2
