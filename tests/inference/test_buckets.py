"""Images in buckets, held against the same images on the disk.

The buckets are fsspec's own in memory, a `file://` one, and a server of this machine that speaks S3
(`conftest.py`).
"""

import gc
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from truemask.bundle import Bundle
from truemask.datasets.shard_server import Server
from truemask.errors import JobFailed, UsageError
from truemask.inference.predict import predict
from truemask.inference.settings import Settings
from truemask.inference.targets import find_targets

COUNT = 6
"""Images in each."""


def masks(folder: Path) -> dict[str, bytes]:
    """What is seen of each file."""
    return {
        file.relative_to(folder).as_posix(): np.asarray(Image.open(file)).tobytes()
        for file in folder.rglob("*")
        if file.suffix in (".png", ".jpg")
    }


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_bucket_gets_the_masks_of_a_folder(
    bundle: Bundle, photos: Path, memory: Any, tmp_path: Path, kind: str
) -> None:
    url = f"file://{photos}" if kind == "file" else "memory://bucket/photos/"
    settings = Settings(overlay=True)
    plain = predict(bundle, [photos], tmp_path / "plain", settings=settings)
    found = predict(bundle, [url], tmp_path / "found", settings=settings)
    assert plain.failed == found.failed == []
    assert len(found.written) == COUNT
    assert masks(tmp_path / "found") == masks(tmp_path / "plain")
    root = url.rstrip("/")
    files = {image.mask: image.file for image in found.written}
    assert files["a/x.png"] == f"{root}/a/x.png"
    assert set(files) == {image.mask for image in plain.written}
    table = (tmp_path / "found" / "predictions.csv").read_text()
    assert table == (tmp_path / "plain" / "predictions.csv").read_text().replace(str(photos), root)


def test_an_object_that_changed_is_predicted_again(
    bundle: Bundle, photos: Path, memory: Any, tmp_path: Path
) -> None:
    url, out = "memory://bucket/photos", tmp_path / "out"
    predict(bundle, [url], out)
    again = predict(bundle, [url], out)
    assert (len(again.written), len(again.kept)) == (0, COUNT)
    content = memory.cat_file("/bucket/photos/b/x.png")
    memory.rm_file("/bucket/photos/b/x.png")
    memory.pipe_file("/bucket/photos/b/x.png", content)
    third = predict(bundle, [url], out)
    assert [image.file for image in third.written] == [f"{url}/b/x.png"]


def test_what_cannot_be_fetched_is_skipped(
    bundle: Bundle, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = type(memory).get_file
    temporary: list[str] = []

    def get_file(self: Any, url: str, path: str, **options: Any) -> Any:
        temporary.append(path)
        if url.endswith("a/x.png"):
            raise FileNotFoundError(url)
        if url.endswith("b/x.png"):
            raise ConnectionError("the line is dead")
        return get(self, url, path, **options)

    memory.pipe_file("/bucket/photos/cut.png", memory.cat_file("/bucket/photos/y.png")[:99])
    monkeypatch.setattr(type(memory), "get_file", get_file)
    result = predict(bundle, ["memory://bucket/photos"], tmp_path / "out")
    assert len(result.written) == COUNT - 2
    reasons = dict(result.failed)
    root = "memory://bucket/photos"
    assert reasons[f"{root}/a/x.png"] == f"{root}/a/x.png is no longer there"
    assert "the line is dead; try again later" in reasons[f"{root}/b/x.png"]
    assert f"{root}/cut.png" in reasons[f"{root}/cut.png"]
    assert not any(os.path.exists(os.path.dirname(path)) for path in temporary)


def test_one_object_and_a_folder_together(memory: Any, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    here = photos.rename(tmp_path / "here")
    one = "memory://bucket/photos/y.jpg"
    assert [target.given for target in find_targets([one], out)] == [one]
    both = find_targets([one, "memory://bucket/photos", here / "y.jpg"], out)
    assert len(both) == COUNT + 1
    assert len({target.mask for target in both}) == len(both)
    assert both[::2][1] == both[2] == both.take([2])[0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://bucket/nothing", "there is nothing at memory://bucket/nothing: check the names"),
        ("memory://bucket/photos/notes.txt", "there is no image in memory://bucket/photos/notes"),
        ("ssh://me:secret@host/x", "^ssh:// is no kind of URL that images are read from: s3://"),
        ("simplecache::s3://bucket/x", "is no kind of URL"),
    ],
)
def test_what_holds_no_image_is_one_line(
    memory: Any, tmp_path: Path, url: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        find_targets([url], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_server_that_fails_is_one_line(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoCredentialsError(Exception):
        """As botocore's."""

    errors = [NoCredentialsError("Unable to locate credentials"), PermissionError("Forbidden")]

    def ls(self: Any, *args: Any, **options: Any) -> Any:
        raise errors[0]

    monkeypatch.setattr(type(memory), "ls", ls)
    for text in ("Unable to locate credentials", "Forbidden"):
        with pytest.raises(UsageError, match=f"bucket/photos/: {text}: check the URL and your"):
            find_targets(["memory://bucket/photos"], tmp_path / "out")
        del errors[0]
    errors.append(ConnectionError("no route"))
    with pytest.raises(JobFailed, match="no route; try again later"):
        find_targets(["memory://bucket/photos"], tmp_path / "out")


def test_names_of_a_server_do_not_lead_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["../up.png", "a/../../b.png", "/abs.png", "c\\d.png", "good.png", "d//e.png", "png"]
    monkeypatch.setattr(Server, "walk", lambda self: ((name, {"size": 1}) for name in names))
    targets = find_targets(["s3://bucket/x"], tmp_path / "out")
    out = tmp_path / "out"
    assert [target.mask for target in targets] == [out / "good.png", out / "d" / "e.png"]
    assert targets[1].given == "s3://bucket/x/d//e.png"


def test_many_names_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 20_000

    def walk(self: Server) -> Iterator[tuple[str, dict[str, Any]]]:
        for number in range(count):
            yield f"{number // 1000:04d}/image-{number:09d}.jpg", {"size": 9, "ETag": str(number)}

    monkeypatch.setattr(Server, "walk", walk)
    find_targets(["s3://bucket/photos/"], tmp_path / "first")  # What is imported counts not.
    gc.collect()
    tracemalloc.start()
    try:
        targets = find_targets(["s3://bucket/photos/"], tmp_path / "out")
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(targets) == count
    assert kept / count < 350


@pytest.mark.filterwarnings("ignore")  # of botocore and moto
def test_s3(bundle: Bundle, photos: Path, s3: str, s3_server: Any, tmp_path: Path) -> None:
    predict(bundle, [photos], tmp_path / "plain")
    found = predict(bundle, [s3], tmp_path / "found")
    assert masks(tmp_path / "found") == masks(tmp_path / "plain")
    assert found.written[0].file == f"{s3}a/x.png"
    assert len(predict(bundle, [s3], tmp_path / "found").kept) == COUNT
    (one,) = find_targets([f"{s3}y.jpg"], tmp_path / "one")
    assert one.given == f"{s3}y.jpg"
    # More than a page.
    s3_server.pipe({f"bucket/many/{number:05d}.png": b"" for number in range(1203)})
    many = find_targets(["s3://bucket/many"], tmp_path / "many")
    assert [target.name for target in many] == [f"{number:05d}.png" for number in range(1203)]
    for url in ("s3://no-such-bucket/x", "s3://bucket/nothing"):
        with pytest.raises(UsageError, match=f"there is nothing at {url}"):
            find_targets([url], tmp_path / "none")
