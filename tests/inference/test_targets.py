import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from truemask.errors import UsageError
from truemask.inference.records import Record
from truemask.inference.settings import Settings
from truemask.inference.summary import PredictedImage, add_to_summary, read_summary
from truemask.inference.target import Target
from truemask.inference.targets import find_targets
from truemask.labels import LabelMap

LABELS = LabelMap(names=("sky", "road"), values={0: 0, 1: 1})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(inputs: Sequence[str], out: str = "out") -> dict[str, str]:
    """Image -> name of its mask, in order."""
    targets = find_targets([Path(name) for name in inputs], Path(out))
    return {target.source.as_posix(): target.mask.relative_to(out).as_posix() for target in targets}


def write_mask(target: Target) -> None:
    target.mask.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(np.zeros((2, 3), dtype=np.uint8))
    record = Record(target.name, "", {}, (".color.png",))
    mask.save(target.mask, pnginfo=record.png_info())
    target.color.write_text("")


def refusal(inputs: Sequence[str], out: str = "out") -> str:
    with pytest.raises(UsageError) as caught:
        found(inputs, out)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_folders_and_globs(root: Path) -> None:
    touch(
        "a/z.jpg", "a/b/y.PNG", "a/notes.txt", "a/.hidden.jpg", "a/.git/x.jpg", "c/1.tif", "2.bmp"
    )
    assert found(["2.bmp"]) == {"2.bmp": "2.png"}
    assert found(["a"]) == {"a/z.jpg": "z.png", "a/b/y.PNG": "b/y.png"}
    assert found(["*/*.*"]) == {"a/z.jpg": "a/z.png", "c/1.tif": "c/1.png"}
    assert found(["a/**/*"]) == {"a/b/y.PNG": "b/y.png", "a/z.jpg": "z.png"}
    assert found(["c/[0-9].tif"]) == {"c/1.tif": "1.png"}
    assert found([str(root / "c")]) == {f"{root}/c/1.tif": "1.png"}


def test_the_order_is_that_of_the_inputs_and_names(root: Path) -> None:
    touch("b/2.jpg", "b/10.jpg", "b/1.jpg", "a/3.jpg")
    assert list(found(["b", "a"])) == ["b/1.jpg", "b/10.jpg", "b/2.jpg", "a/3.jpg"]


def test_an_image_is_predicted_once(root: Path) -> None:
    touch("a/1.jpg", "a/2.jpg")
    assert found(["a/2.jpg", "a", "a/*.jpg", str(root / "a")]) == {
        "a/2.jpg": "2.png",
        "a/1.jpg": "1.png",
    }


def test_a_file_is_taken_whatever_its_ending(root: Path) -> None:
    touch("scan", "a[1].jpg")
    assert found(["scan", "a[1].jpg"]) == {"scan": "scan.png", "a[1].jpg": "a[1].png"}


def test_links_do_not_lead_in_circles(root: Path) -> None:
    touch("a/1.jpg", "elsewhere/2.jpg")
    Path("a/circle").symlink_to(root / "a")
    Path("a/more").symlink_to(root / "elsewhere")
    assert found(["a"]) == {"a/1.jpg": "1.png", "a/more/2.jpg": "more/2.png"}


@pytest.mark.parametrize(
    ("files", "masks"),
    [
        (["a/x.jpg", "b/x.png"], ["a/x.png", "b/x.png"]),
        (["a/x.jpg", "a/x.png"], ["x.jpg.png", "x.png.png"]),
        (["a/x.jpg", "a/X.png"], ["x.jpg.png", "X.png.png"]),
        (["a/x.jpg", "b/x.jpg", "b/y.jpg"], ["a/x.png", "b/x.png", "y.png"]),
        (["a/x.jpg", "a/x.png", "b/x.jpg"], ["x.jpg.png", "x.png.png", "b/x.png"]),
        (["a/x.jpg", "a/x.color.jpg"], ["x.jpg.png", "x.color.jpg.png"]),
        (["a/x.jpg", "a/x.overlay.png"], ["x.png", "x.overlay.png"]),
    ],
)
def test_no_two_images_share_a_name(root: Path, files: list[str], masks: list[str]) -> None:
    touch(*files)
    assert found(files) == dict(zip(files, masks, strict=True))
    everything = [f for t in find_targets(list(map(Path, files)), Path("out")) for f in t.files]
    assert len({str(file).lower() for file in everything}) == 7 * len(files)


def test_folders_of_the_same_content(root: Path) -> None:
    touch("day1/x.jpg", "day2/x.jpg", "day2/sub/y.jpg")
    assert found(["day1", "day2"]) == {
        "day1/x.jpg": "day1/x.png",
        "day2/x.jpg": "day2/x.png",
        "day2/sub/y.jpg": "sub/y.png",
    }


def of(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=4).hexdigest()


def test_names_that_some_disks_do_not_tell_apart(root: Path) -> None:
    names = ["x.jpg", "X.JPG", "x.png", "Sub/y.jpg", "sub/y.jpg", "z.jpg"]
    touch(*(f"a/{name}" for name in names))
    expected = {
        "a/X.JPG": f"X.JPG.{of('X.JPG')}.png",
        "a/x.jpg": f"x.jpg.{of('x.jpg')}.png",
        "a/x.png": "x.png.png",
        "a/z.jpg": "z.png",
        "a/Sub/y.jpg": f"Sub/y.jpg.{of('Sub/y.jpg')}.png",
        "a/sub/y.jpg": f"sub/y.jpg.{of('sub/y.jpg')}.png",
    }
    assert found(["a"]) == expected
    everything = [
        file for target in find_targets([Path("a")], Path("out")) for file in target.files
    ]
    assert len({str(file).lower() for file in everything}) == 7 * len(names)
    # Nothing that comes or goes beside them gives them other names, so that they are found again.
    for target in find_targets([Path("a")], Path("out")):
        write_mask(target)
    touch("a/A.jpg", "a/x.JPG")
    Path("a/z.jpg").unlink()
    again = found(["a"])
    assert {name: mask for name, mask in again.items() if name in expected} == {
        name: mask for name, mask in expected.items() if name != "a/z.jpg"
    }
    assert again["a/x.JPG"] == f"x.JPG.{of('x.JPG')}.png"


def test_images_of_one_name_in_folders_of_one_name(root: Path) -> None:
    touch("p/a/x.jpg", "q/a/x.jpg")
    inputs = ["p/a/x.jpg", "q/a/x.jpg"]
    assert found(inputs) == {name: f"a/x.jpg.{of(name)}.png" for name in inputs}
    targets = find_targets(list(map(Path, inputs)), Path("out"))
    assert [target.name for target in targets] == inputs
    for target in targets:
        write_mask(target)
    assert list(find_targets(list(map(Path, inputs)), Path("out"))) == list(targets)


def test_digests_that_agree_are_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("truemask.inference.targets._marked", lambda name, known: Path("one"))
    touch("a/x.jpg", "a/X.jpg")
    message = refusal(["a"])
    assert message.startswith("the masks of a/X.jpg and a/x.jpg would get one name")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["nothing"], "nothing does not exist"),
        (["nothing/*.jpg"], "there is no image in nothing/*.jpg: looked for files ending in .bmp,"),
        (["a", "empty"], "there is no image in empty"),
        (["*.txt"], "there is no image in *.txt"),
    ],
)
def test_an_input_without_images(root: Path, inputs: list[str], message: str) -> None:
    touch("a/1.jpg", "empty/notes.txt", "notes.txt")
    assert message in refusal(inputs)


# Nothing is overwritten.


def test_images_are_never_overwritten(root: Path) -> None:
    touch("a/x.png", "a/y.jpg")
    assert "a/x.png is one of the images" in refusal(["a/x.png"], "a")
    assert "--out is the folder of the images (a)" in refusal(["a"], "a")
    Path("link").symlink_to(root / "a")
    assert "a/x.png is one of the images" in refusal(["a/x.png"], "link").replace("link", "a")
    assert found(["a/y.jpg"], "a") == {"a/y.jpg": "y.png"}


@pytest.mark.parametrize("name", ["y.png", "y.color.png", "y.overlay.jpg", "y.npz"])
def test_files_of_others_are_never_overwritten(root: Path, name: str) -> None:
    touch("a/y.jpg", f"out/{name}")
    assert f"out/{name} exists, and is no earlier prediction of y.jpg" in refusal(["a/y.jpg"])
    Path("out", name).unlink()
    Path("out", name).mkdir()
    assert f"out/{name} exists" in refusal(["a/y.jpg"])


def test_a_mask_of_somebody_elses_is_never_overwritten(root: Path) -> None:
    touch("a/y.jpg")
    Path("out").mkdir()
    Image.fromarray(np.zeros((2, 3), dtype=np.uint8)).save("out/y.png")
    assert "out/y.png exists, and is no earlier prediction of y.jpg" in refusal(["a/y.jpg"])


def test_an_earlier_prediction_of_the_same_name_is_replaced(root: Path) -> None:
    touch("a/y.jpg", "b/y.jpeg", "ü/\N{SNOWMAN}.jpg")
    for target in find_targets([Path("a"), Path("ü")], Path("out")):
        write_mask(target)
    assert found(["a"]) == {"a/y.jpg": "y.png"}
    assert found(["ü"]) == {"ü/\N{SNOWMAN}.jpg": "\N{SNOWMAN}.png"}
    assert "is no earlier prediction of y.jpeg" in refusal(["b"])


def test_masks_in_the_folder_of_the_images_are_no_images(root: Path) -> None:
    touch("a/1.jpg", "a/masks/old.png", "a/sub/2.jpg")
    expected = {"a/1.jpg": "1.png", "a/sub/2.jpg": "sub/2.png"}
    assert found(["a"], "a/masks") == expected
    assert found(["a/**"], "a/masks") == expected
    assert found(["a/**/*.*"], "a/masks") == expected
    assert found(["a/*"], "a/masks") == expected
    assert found(["*"], "a/masks") == {"a/1.jpg": "a/1.png", "a/sub/2.jpg": "a/sub/2.png"}


def test_out_may_be_above_the_images(root: Path) -> None:
    touch("out/images/1.jpg", "2.jpg")
    assert found(["out/images"]) == {"out/images/1.jpg": "1.png"}
    assert found(["*.jpg"], ".") == {"2.jpg": "2.png"}
    assert found(["out/*/*.jpg"], "out") == {"out/images/1.jpg": "images/1.png"}


# The table.


def row(mask: str, share: float) -> PredictedImage:
    return PredictedImage(
        file=f"in/{mask}",
        mask=mask,
        height=2,
        width=3,
        shares={"sky": share, "road": 1 - share},
        confidence=0.5,
        entropy=0.25,
        pixels={"sky": round(6 * share), "road": 6 - round(6 * share)},
        areas={"sky": 1234.5, "road": 0.0} if share == 1 else None,
    )


def test_the_table_grows_and_replaces_its_lines(tmp_path: Path) -> None:
    assert read_summary(tmp_path, LABELS) == {}
    add_to_summary(tmp_path, [row("a,b.png", 0.25), row("c.png", 1.0)], LABELS)
    add_to_summary(tmp_path, [row("d.png", 0.0), row("a,b.png", 0.5)], LABELS)
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "file,mask,height,width,share_sky,share_road,confidence,unlikeness,warning,entropy,"
        "pixels_sky,pixels_road,area_m2_sky,area_m2_road",
        "in/c.png,c.png,2,3,1.000000,0.000000,0.500000,,,0.250000,6,0,1234.50,0.00",
        "in/d.png,d.png,2,3,0.000000,1.000000,0.500000,,,0.250000,0,6,,",
        '"in/a,b.png","a,b.png",2,3,0.500000,0.500000,0.500000,,,0.250000,3,3,,',
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.csv"]


def test_a_table_of_an_earlier_version_is_added_to(tmp_path: Path) -> None:
    table = tmp_path / "predictions.csv"
    head = "file,mask,height,width,share_sky,share_road,confidence"
    table.write_text(f"{head}\nx.jpg,x.png,2,3,1.0,0.0,0.5\n")
    add_to_summary(tmp_path, [row("d.png", 0.0)], LABELS)
    assert table.read_text().splitlines()[1:] == [
        "x.jpg,x.png,2,3,1.0,0.0,0.5,,,,,,,",
        "in/d.png,d.png,2,3,0.000000,1.000000,0.500000,,,0.250000,0,6,,",
    ]


def test_a_file_of_ones_own_beside_a_mask_is_kept(root: Path) -> None:
    touch("a/y.jpg")
    (target,) = find_targets([Path("a")], Path("out"))
    write_mask(target)
    touch("out/y.geojson")
    assert "out/y.geojson exists, and is no earlier prediction of y.jpg" in refusal(["a/y.jpg"])
    assert len(find_targets([Path("a")], Path("out"), Settings())) == 1


@pytest.mark.parametrize("content", [b"", b"mine", b"a,b\n1,2\n", b"\xff\xfe", b'"'])
def test_a_table_of_others_is_never_overwritten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "predictions.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"predictions\.csv.*choose another --out"):
        read_summary(tmp_path, LABELS)


def test_a_table_of_other_classes_is_never_overwritten(tmp_path: Path) -> None:
    add_to_summary(tmp_path, [row("a.png", 0.25)], LABELS)
    other = LabelMap(names=("sky", "tree"), values={})
    with pytest.raises(UsageError, match="no table of predictions of the same classes"):
        read_summary(tmp_path, other)
