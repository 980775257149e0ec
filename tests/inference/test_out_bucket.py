"""Masks in buckets, held against the same masks on the disk."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from truemask.bundle import Bundle
from truemask.cli import main
from truemask.datasets.shard_server import Server
from truemask.errors import JobFailed, UsageError
from truemask.inference import predict as module
from truemask.inference.predict import predict
from truemask.inference.settings import Settings

OUT = "memory://bucket/masks"
EVERYTHING = Settings(
    overlay=True, probabilities=True, polygons=("geojson", "labelme", "coco")
)  # fmt: skip


def on_disk(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def in_bucket(url: str) -> dict[str, bytes]:
    """What lies there, without the records."""
    system, path = fsspec.url_to_fs(url)
    system.invalidate_cache()
    path = path.strip("/")
    found = {
        str(name).strip("/")[len(path) + 1 :]: system.cat_file(name) for name in system.find(path)
    }
    return {name: content for name, content in found.items() if not name.startswith(".truemask/")}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of servers, in this order."""
    found: list[str] = []

    def watch(name: str) -> None:
        method: Callable[..., Any] = getattr(Server, name)

        def watched(self: Server, *args: Any) -> Any:
            shown = args[1] if name == "send" else args[0] if args else self.root
            found.append(f"{name} {shown}")
            return method(self, *args)

        monkeypatch.setattr(Server, name, watched)

    for name in ("walk", "names", "look", "read", "write", "send", "remove"):
        watch(name)
    return found


def test_a_bucket_gets_what_a_folder_gets(
    bundle: Bundle, photos: Path, memory: Any, tmp_path: Path
) -> None:
    photos.joinpath("cut.png").write_bytes(photos.joinpath("y.png").read_bytes()[:99])
    plain = predict(bundle, [photos], tmp_path / "plain", settings=EVERYTHING)
    (tmp_path / "plain" / "coco.json").unlink()  # of all images there is none in a bucket
    found = predict(bundle, [photos], f"{OUT}/", settings=EVERYTHING)
    assert found.written == plain.written
    assert found.failed == plain.failed
    assert [file for file, _ in found.failed] == [str(photos / "cut.png")]
    assert found.out == OUT
    there, here = in_bucket(OUT), on_disk(tmp_path / "plain")
    for name in [name for name in here if name.endswith(".labelme.json")]:
        # Which names the image by its path from the file, where there is one.
        path = Path(json.loads(there[name])["imagePath"])
        assert (
            path.read_bytes()
            == (tmp_path / "plain" / name)
            .parent.joinpath(json.loads(here[name])["imagePath"])
            .read_bytes()
        )
        there[name] = here[name]
    assert there == here
    assert len(there) == 6 * 7 + 1


def test_from_a_bucket_into_it(bundle: Bundle, memory: Any, tmp_path: Path) -> None:
    url = "memory://bucket"
    plain = predict(bundle, [url], tmp_path / "plain", settings=EVERYTHING)
    (tmp_path / "plain" / "coco.json").unlink()
    found = predict(bundle, [url], f"{url}/photos/masks", settings=EVERYTHING)
    assert found.written == plain.written
    assert in_bucket(f"{url}/photos/masks") == on_disk(tmp_path / "plain")
    # Its own masks are no images.
    again = predict(bundle, [url], f"{url}/photos/masks", settings=EVERYTHING)
    assert (len(again.written), len(again.kept), again.failed) == (0, 6, [])
    with pytest.raises(UsageError, match="^--out is the folder of the images"):
        predict(bundle, [url], url)
    with pytest.raises(UsageError, match="y.png is one of the images, which the prediction of"):
        predict(bundle, [f"{url}/photos/y.png"], f"{url}/photos/")


def test_going_on_asks_for_one_listing_and_no_mask(
    bundle: Bundle, photos: Path, memory: Any, asked: list[str]
) -> None:
    first = predict(bundle, [photos], OUT, settings=Settings(overlay=True))
    before = in_bucket(OUT)
    assert sum(each.startswith("walk") for each in asked) == 1
    asked.clear()
    second = predict(bundle, [photos], OUT, settings=Settings(overlay=True))
    assert (second.written, second.kept) == ([], first.written)
    assert in_bucket(OUT) == before
    assert sum(each.startswith("walk") for each in asked) == 1
    assert not [each for each in asked if each.split()[0] in ("look", "write", "send", "remove")]
    assert not [each for each in asked if each.endswith((".png", ".jpg"))]

    memory.rm_file("/bucket/masks/y.jpg.overlay.jpg")  # as where it ended between two files
    memory.rm_file("/bucket/masks/a/x.png")
    memory.rm_file("/bucket/masks/a/x.color.png")
    memory.rm_file("/bucket/masks/a/x.overlay.jpg")
    os.utime(photos / "b" / "x.png", ns=(1, 1))
    third = predict(bundle, [photos], OUT, settings=Settings(overlay=True))
    assert [image.mask for image in third.written] == ["y.jpg.png", "a/x.png", "b/x.png"]
    assert len(third.kept) == 3
    assert set(in_bucket(OUT)) == set(before)
    assert len(predict(bundle, [photos], OUT).written) == 6
    assert not [name for name in in_bucket(OUT) if name.endswith(".overlay.jpg")]
    assert len(predict(bundle, [photos], OUT, fresh=True).written) == 6


def test_without_records_the_headers_are_read_once(
    bundle: Bundle, photos: Path, memory: Any, asked: list[str]
) -> None:
    first = predict(bundle, [photos], OUT)
    memory.rm("/bucket/masks/.truemask", recursive=True)  # as where it was killed before the first
    asked.clear()
    second = predict(bundle, [photos], OUT)
    assert (second.written, second.kept) == ([], first.written)
    assert sorted(each for each in asked if each.startswith("look")) == sorted(
        f"look {image.mask}" for image in first.written
    )
    asked.clear()
    assert predict(bundle, [photos], OUT).kept == first.written
    assert not [each for each in asked if each.startswith("look")]


def test_a_record_does_not_count_for_a_mask_that_was_replaced(
    bundle: Bundle, photos: Path, memory: Any, asked: list[str]
) -> None:
    predict(bundle, [photos], OUT, settings=Settings(flips=True))
    others = in_bucket(OUT)
    predict(bundle, [photos], OUT)
    # Another call with other settings was ended before it could tell.
    memory.pipe_file("/bucket/masks/y.png.png", others["y.png.png"])
    asked.clear()
    result = predict(bundle, [photos], OUT)
    assert [image.mask for image in result.written] == ["y.png.png"]
    assert [each for each in asked if each.startswith("look")] == ["look y.png.png"] * 2


@pytest.mark.parametrize("text", ["", "{", "[]\n3\n", '{"mask": "y.png.png"}\n', "[" * 100_000])
def test_records_that_are_none_are_left(
    bundle: Bundle, photos: Path, memory: Any, text: str
) -> None:
    predict(bundle, [photos], OUT)
    memory.pipe_file("/bucket/masks/.truemask/0.jsonl", text.encode())
    assert len(predict(bundle, [photos], OUT).kept) == 6


def test_what_is_not_its_own_is_not_overwritten(
    bundle: Bundle, photos: Path, memory: Any, tmp_path: Path
) -> None:
    memory.pipe_file("/bucket/masks/a/x.color.png", b"mine")
    message = f"{OUT}/a/x.color.png exists, and is no earlier prediction of a/x.png: choose"
    with pytest.raises(UsageError, match=message):
        predict(bundle, [photos], OUT)
    memory.rm_file("/bucket/masks/a/x.color.png")
    memory.pipe_file("/bucket/masks/predictions.csv", b"a,b\n1,2\n")
    with pytest.raises(UsageError, match=f"{OUT}/predictions.csv is no table of predictions"):
        predict(bundle, [photos], OUT)
    assert in_bucket(OUT) == {"predictions.csv": b"a,b\n1,2\n"}
    memory.pipe_file("/bucket/file", b"mine")
    with pytest.raises(UsageError, match="memory://bucket/file is a file: choose another --out"):
        predict(bundle, [photos], "memory://bucket/file")


def test_what_cannot_be_put_there(
    bundle: Bundle, photos: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = type(memory).put_file
    folders = set()
    error: Exception = ConnectionError("the line is dead")

    def put_file(self: Any, path: str, url: str, **options: Any) -> Any:
        folders.add(Path(path).parent)
        if url.endswith("b/x.color.png"):
            raise error
        return put(self, path, url, **options)

    monkeypatch.setattr(type(memory), "put_file", put_file)
    result = predict(bundle, [photos], OUT)
    assert len(result.written) == 5
    (failed,) = result.failed
    assert failed[0] == str(photos / "b" / "x.png")
    assert failed[1] == f"cannot write {OUT}/b/x.color.png: the line is dead; try again later"
    error = PermissionError("Access Denied")
    with pytest.raises(UsageError, match=r"b/x.color.png: Access Denied: check the URL and your"):
        predict(bundle, [photos], OUT)
    monkeypatch.setattr(type(memory), "put_file", put)
    assert [image.mask for image in predict(bundle, [photos], OUT).written] == ["b/x.png"]
    assert not any(folder.exists() for folder in folders)


def test_without_a_right_to_write_nothing_is_predicted(
    bundle: Bundle,
    bundle_folder: Path,
    photos: Path,
    memory: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def pipe_file(self: Any, *args: Any, **options: Any) -> Any:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(memory), "pipe_file", pipe_file)
    monkeypatch.setattr(module, "predict_file", None)
    assert main(["predict", str(bundle_folder), str(photos), "--out", OUT]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"truemask: cannot write {OUT}/.truemask/")
    assert said.err.endswith("Access Denied: check the URL and your rights to it\n")
    assert said.err.count("\n") == 1
    assert in_bucket(OUT) == {}


def test_the_command(
    bundle_folder: Path, photos: Path, memory: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.png").write_text("none")
    words = ["predict", str(bundle_folder), str(photos), "--out", f"{OUT}/"]
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"6 masks in {OUT}; *.color.png shows")
    assert said.err.startswith(f"truemask: skipped {photos}/bad.png is no JPEG")
    assert said.err.count("\n") == 1
    assert main([*words, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["out"], found["written"], len(found["kept"])) == (OUT, [], 6)
    assert {"key", "size"} & set(found["kept"][0]) == set()


@pytest.mark.parametrize("url", ["http://host/x", "ssh://host/x", "simplecache::s3://bucket/x"])
def test_other_kinds_of_url_are_refused(bundle: Bundle, photos: Path, url: str) -> None:
    with pytest.raises(UsageError, match="is no kind of URL that masks are written to: s3://"):
        predict(bundle, [photos], url)


def test_a_server_that_does_not_answer(
    bundle: Bundle, photos: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ls(self: Any, *args: Any, **options: Any) -> Any:
        raise ConnectionError("no route")

    monkeypatch.setattr(type(memory), "ls", ls)
    with pytest.raises(JobFailed, match=f"cannot list {OUT}/: no route; try again later"):
        predict(bundle, [photos], OUT)


def test_a_file_url_is_a_folder(bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    result = predict(bundle, [photos], f"file://{tmp_path}/out")
    assert result.out == f"{tmp_path}/out"
    assert (tmp_path / "out" / "a" / "x.png").exists()
    assert not (tmp_path / "out" / ".truemask").exists()


def test_an_interruption_leaves_a_table_and_records(
    bundle: Bundle, photos: Path, memory: Any, monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if args[1].source.name == "z.tif":
            raise KeyboardInterrupt
        return predict_file(*args, **kwargs)

    predict_file = module.predict_file
    with monkeypatch.context() as patch:
        patch.setattr(module, "predict_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(bundle, [photos], OUT)
    assert len(in_bucket(OUT)["predictions.csv"].splitlines()) == 3
    asked.clear()
    result = predict(bundle, [photos], OUT)
    assert (len(result.kept), len(result.written)) == (2, 4)
    assert not [each for each in asked if each.startswith("look")]
    predict(bundle, [photos], f"{OUT}-whole")
    assert in_bucket(OUT) == in_bucket(f"{OUT}-whole")


def test_calls_share_the_table_though_they_write_it_at_once(
    bundle: Bundle, photos: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call comes between where the first has read the table and where it writes it."""
    write = Server.write
    between: list[str] = []

    def written(self: Server, name: str, content: bytes) -> None:
        if name == "predictions.csv" and not between:
            between.append(name)
            predict(bundle, [photos], OUT, part=(2, 2))
        write(self, name, content)

    monkeypatch.setattr(Server, "write", written)
    predict(bundle, [photos], OUT, part=(1, 2))
    assert between
    predict(bundle, [photos], f"{OUT}-whole")
    whole, found = (in_bucket(url) for url in (f"{OUT}-whole", OUT))
    table = found.pop("predictions.csv").splitlines()
    assert sorted(table) == sorted(whole.pop("predictions.csv").splitlines())
    assert found == whole


def test_rasters(bundle: Bundle, memory: Any, tmp_path: Path, asked: list[str]) -> None:
    rasterio = pytest.importorskip("rasterio")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 90, 70), dtype=np.uint8)
    place = rasterio.Affine(2, 0, 100, 0, -2, 200)
    (tmp_path / "in").mkdir()
    with rasterio.open(
        tmp_path / "in" / "map.tif", "w", driver="GTiff", width=70, height=90, count=3,
        dtype="uint8", crs="EPSG:25833", transform=place,
    ) as file:  # fmt: skip
        file.write(pixels)
    memory.put_file(str(tmp_path / "in" / "map.tif"), "/bucket/maps/map.tif")
    settings = Settings(overlay=True, probabilities=True, polygons=("geojson",))
    for number, given in enumerate([tmp_path / "in", "memory://bucket/maps"]):
        plain = tmp_path / f"plain{number}"
        predict(bundle, [given], plain, settings=settings)
        url = f"{OUT}{number}"
        (image,) = predict(bundle, [given], url, settings=settings).written
        assert image.mask == "map.tif"
        assert image.areas is not None
        assert in_bucket(url) == on_disk(plain)
        assert predict(bundle, [given], url, settings=settings).kept == [image]
        memory.rm(f"/bucket/masks{number}/.truemask", recursive=True)
        assert predict(bundle, [given], url, settings=settings).kept == [image]
        assert "look map.tif" in asked
        # Without what is no longer asked for.
        predict(bundle, [given], url)
        assert set(in_bucket(url)) == {"map.tif", "predictions.csv"}


def test_a_name_that_a_bucket_cannot_have(bundle: Bundle, memory: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    strange = os.path.join(os.fsencode(tmp_path), b"in", b"a\xff.png")
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(os.fsdecode(strange))
    result = predict(bundle, [tmp_path / "in"], OUT)
    assert "is no UTF-8, as names in a bucket must be" in result.failed[0][1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of botocore and moto
def test_s3(bundle: Bundle, s3: str, tmp_path: Path) -> None:
    settings = Settings(overlay=True)
    plain = predict(bundle, [s3], tmp_path / "plain", settings=settings)
    out = "s3://bucket/masks/"
    found = predict(bundle, [s3], out, settings=settings)
    assert found.written == plain.written
    assert in_bucket(out) == on_disk(tmp_path / "plain")
    assert predict(bundle, [s3], out, settings=settings).kept == plain.written
    assert predict(bundle, [s3], out).failed == []
    assert not [name for name in in_bucket(out) if name.endswith(".overlay.jpg")]
    with pytest.raises(UsageError, match=r"cannot write s3://no-such-.*there is no such bucket"):
        predict(bundle, [s3], "s3://no-such-bucket/masks/")
