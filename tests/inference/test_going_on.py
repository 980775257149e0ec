"""Interrupted folders, several processes and several calls into one folder."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from forked import program
from truemask.bundle import Bundle, load_bundle, save_bundle
from truemask.cli import main
from truemask.errors import JobFailed, UsageError
from truemask.images import RGB
from truemask.inference import predict as module
from truemask.inference.predict import predict
from truemask.inference.processes import in_processes
from truemask.inference.records import model_key, read_record
from truemask.inference.settings import Settings
from truemask.inference.summary import PredictedImage, add_to_summary, read_summary
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter

LABELS = LabelMap(names=("sky", "road", "tree"), values={0: 0, 1: 1, 2: 2})


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    place = Path("in")
    place.mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return place


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def masks(images: list[PredictedImage]) -> list[str]:
    return [image.mask for image in images]


def test_what_is_done_is_left_and_what_changed_is_not(bundle: Bundle, images: Path) -> None:
    settings = Settings(overlay=True)
    first = predict(bundle, [images], Path("out"), settings=settings)
    before = contents(Path("out"))
    times = {file: file.stat().st_mtime_ns for file in Path("out").glob("*.png")}
    second = predict(bundle, [images], Path("out"), settings=settings)
    assert second.written == []
    assert second.kept == first.written
    assert contents(Path("out")) == before
    assert {file: file.stat().st_mtime_ns for file in times} == times

    Path("out/1.overlay.jpg").unlink()  # as where it ended between two files
    Path("out/2.png").unlink()
    Path("out/2.color.png").unlink()
    Path("out/2.overlay.jpg").unlink()
    shutil.copy(images / "0.png", images / "3.png")
    os.utime(images / "4.png", ns=(1, 1))
    third = predict(bundle, [images], Path("out"), settings=settings)
    assert masks(third.written) == ["1.png", "2.png", "3.png", "4.png"]
    assert masks(third.kept) == ["0.png", "5.png"]


def test_images_whose_names_differ_in_case_alone_get_their_own_masks(
    bundle: Bundle, images: Path
) -> None:
    (images / "0.png").rename(images / "x.png")
    (images / "1.png").rename(images / "X.PNG")
    first = predict(bundle, [images], Path("out"))
    mine = {image.file: image.mask for image in first.written}
    lower, upper = mine["in/x.png"], mine["in/X.PNG"]
    assert lower.lower() != upper.lower()
    for image, mask in (("x.png", lower), ("X.PNG", upper)):
        predict(bundle, [images / image], Path("alone"), fresh=True)
        with (
            Image.open(Path("alone", image).with_suffix(".png")) as alone,
            Image.open(Path("out", mask)) as together,
        ):
            assert alone.tobytes() == together.tobytes()
        shutil.rmtree("alone")
    again = predict(bundle, [images], Path("out"))
    assert again.written == []
    assert again.kept == first.written


def test_another_model_or_other_settings_make_it_anew(bundle: Bundle, images: Path) -> None:
    predict(bundle, [images], Path("out"))
    assert len(predict(bundle, [images], Path("out"), fresh=True).written) == 6
    assert len(predict(bundle, [images], Path("out"), settings=Settings(flips=True)).written) == 6
    with torch.no_grad():
        bundle.model.network.head.bias += 1e-6  # type: ignore[union-attr, operator]
    assert len(predict(bundle, [images], Path("out"), settings=Settings(flips=True)).written) == 6


def test_files_of_other_settings_do_not_stay_beside_a_new_mask(
    bundle: Bundle, images: Path
) -> None:
    predict(bundle, [images], Path("out"), settings=Settings(overlay=True, polygons=("coco",)))
    Path("out/0.geojson").write_text("mine")
    predict(bundle, [images], Path("out"))
    assert not list(Path("out").glob("*.overlay.jpg"))
    assert not list(Path("out").glob("*.coco.json"))
    assert Path("out/0.geojson").read_text() == "mine"
    with pytest.raises(UsageError, match=r"0\.geojson exists, and is no earlier prediction"):
        predict(bundle, [images], Path("out"), settings=Settings(polygons=("geojson",)))


def test_an_interruption_leaves_a_table_and_the_rest_for_later(
    bundle: Bundle, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if args[1].source.name == "3.png":
            raise KeyboardInterrupt
        return predict_file(*args, **kwargs)

    predict_file = module.predict_file
    with monkeypatch.context() as patch:
        patch.setattr(module, "predict_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(bundle, [images], Path("out"))
    assert list(read_summary(Path("out"), LABELS)) == ["0.png", "1.png", "2.png"]
    result = predict(bundle, [images], Path("out"))
    assert masks(result.kept) == ["0.png", "1.png", "2.png"]
    predict(bundle, [images], Path("whole"))
    assert contents(Path("out")) == contents(Path("whole"))


def test_the_table_is_written_on_the_way(
    bundle: Bundle, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TABLE_EVERY_S", 0.0)
    seen = []

    def progress(done: int, total: int) -> None:
        seen.append(len(read_summary(Path("out"), LABELS)))

    predict(bundle, [images], Path("out"), progress=progress)
    assert seen[:2] == [0, 1]
    assert seen == sorted(seen)


def test_calls_share_the_images_and_the_table(bundle: Bundle, images: Path) -> None:
    predict(bundle, [images], Path("whole"))
    for which in (2, 1, 3):
        result = predict(bundle, [images], Path("out"), part=(which, 3))
        assert masks(result.written) == [f"{which - 1}.png", f"{which + 2}.png"]
    with Path("out/predictions.csv").open(newline="") as file:
        rows = sorted(csv.reader(file))
    with Path("whole/predictions.csv").open(newline="") as file:
        assert rows == sorted(csv.reader(file))
    with pytest.raises(UsageError, match="--part 4/3 is none"):
        predict(bundle, [images], Path("out"), part=(4, 3))


def test_writers_of_one_table_lose_no_row(tmp_path: Path) -> None:
    def row(name: str) -> PredictedImage:
        return PredictedImage(
            file=name, mask=name, height=1, width=1, shares={"sky": 1.0, "road": 0.0, "tree": 0.0},
            confidence=1.0, entropy=0.0, pixels={"sky": 1, "road": 0, "tree": 0},
        )  # fmt: skip

    def write(writer: int) -> None:
        for number in range(12):
            add_to_summary(tmp_path, [row(f"{writer}-{number}.png")], LABELS)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_summary(tmp_path, LABELS)) == 60
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.csv"]


def test_a_lock_of_a_killed_process_is_broken(tmp_path: Path) -> None:
    lock = tmp_path / ".predictions.csv.lock"
    lock.touch()
    long_ago = time.time() - 3600
    os.utime(lock, (long_ago, long_ago))
    add_to_summary(tmp_path, [], LABELS)
    assert not lock.exists()


def test_masks_of_an_earlier_version_are_made_anew(bundle: Bundle, images: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    Path("out").mkdir()
    info = PngInfo()
    info.add_text("Software", "truemask")
    info.add_itxt("Source", "0.png")
    Image.new("L", (30, 20)).save("out/0.png", pnginfo=info)
    Path("out/0.color.png").touch()
    result = predict(bundle, [images], Path("out"))
    assert len(result.written) == 6
    record = read_record(Path("out/0.png"))
    assert record is not None
    assert record.key


@pytest.mark.slow
def test_several_processes_write_what_one_writes(
    bundle_folder: Path, bundle: Bundle, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (images / "bad.png").write_text("no image")
        settings = Settings(probabilities=True)
        plain = predict(bundle, [images], Path("plain"), settings=settings)
        calling = in_processes(
            bundle_folder, count=2, settings=settings, key=model_key(bundle, settings)
        )
        result = predict(bundle, [images], Path("out"), settings=settings, calling=calling)
    finally:
        torch.set_num_threads(threads)
    assert result.written == plain.written
    assert result.failed == plain.failed
    assert contents(Path("out")) == contents(Path("plain"))


class Deadly(nn.Module):
    """Ends the process that runs it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        os._exit(9)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    output_size = input_size


@pytest.mark.slow
def test_a_process_that_dies_is_one_line(tmp_path: Path, images: Path) -> None:
    network: dict[str, Any] = {"_target_": "test_going_on.Deadly"}
    allow: dict[str, type[nn.Module]] = {"test_going_on.Deadly": Deadly}
    model = Segmenter(network=Deadly(), images=RGB)
    save_bundle(tmp_path / "model", model=model, network=network, labels=LABELS, info={})
    bundle = load_bundle(tmp_path / "model", allow=allow)
    calling = in_processes(tmp_path / "model", count=2, settings=Settings(), key="", allow=allow)
    with pytest.raises(JobFailed, match="a process died.*fewer --processes"):
        predict(bundle, [images], Path("out"), calling=calling)


KILLED = """
import os, signal, sys
from truemask.cli import main
fsync, left = os.fsync, [5]

def kill(file):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(file)

os.fsync = kill
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_what_a_killed_call_left_is_removed_by_the_next(
    bundle_folder: Path, bundle: Bundle, images: Path
) -> None:
    words = ["predict", str(bundle_folder), "in", "--out", "out"]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = Path("out").glob(".*")
    assert re.fullmatch(r"\.2\.png\.[0-9a-f]{8}\.part", left.name)
    others = ["out/.mine.png.0123abcd.part", "out/.part", "out/.2.png.part", "out/2.png.part"]
    for name in others:
        Path(name).touch()
    # Of images that another call may be predicting nothing is removed.
    predict(bundle, [images], Path("out"), part=(1, 2))
    assert not left.exists()
    left.touch()
    predict(bundle, [images], Path("out"), part=(2, 2))
    assert left.exists()
    left.unlink()
    for name in others:
        Path(name).unlink()
    predict(bundle, [images], Path("whole"))
    found, whole = contents(Path("out")), contents(Path("whole"))
    assert set(found.pop("predictions.csv").splitlines()) == set(
        whole.pop("predictions.csv").splitlines()
    )
    assert found == whole


def test_a_table_that_was_not_finished_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".predictions.csv.0123abcd.part").touch()
    add_to_summary(tmp_path, [], LABELS)
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.csv"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_with_one_line(
    bundle_folder: Path, images: Path, number: signal.Signals
) -> None:
    for copy in range(300):
        shutil.copy(images / "0.png", images / f"copy{copy:03d}.png")
    words = ["predict", str(bundle_folder), "in", "--out", "out", "--flips"]
    process = program(*words, output=Path("said"))
    deadline = time.monotonic() + 120
    while not list(Path("out").glob("copy00*.color.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send(number)
    assert process.wait(60) == 1
    assert process.out == ""
    assert process.errors.startswith("truemask: stopped; the same command")
    assert process.errors.count("\n") == 1
    rows = read_summary(Path("out"), LABELS)
    # Of the image at hand the mask may be there; all before it have their rows.
    assert 0 <= len(list(Path("out").glob("*.png"))) - 2 * len(rows) <= 2
    assert 0 < len(rows) < 306
    assert not list(Path("out").glob(".*"))


def test_the_command_says_what_it_left(
    bundle_folder: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(bundle_folder), "in", "--out", "out", "--polygons", "geojson,labelme"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("6 masks in out")
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.startswith("6 masks of this model and these settings there already")
    assert main([*words, "--scales", "1,x"]) == 2
    assert "--scales 1,x is no list of numbers" in capsys.readouterr().err
    assert main([*words, "--part", "1of2"]) == 2
    assert main([*words, "--polygons", "svg"]) == 2
    assert "--polygons svg is none of geojson, labelme, coco" in capsys.readouterr().err


def test_strange_names_and_pipes_end_nothing(bundle_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    pixels = Image.fromarray(np.zeros((8, 9, 3), np.uint8))
    strange = os.fsdecode(b"in/a\xff.png")
    for name in (strange, "in/new\nline.png", f"in/{'n' * 250}.png", "in/z.png"):
        pixels.save(name)
    os.mkfifo("in/pipe.png")
    words = ["predict", str(bundle_folder), "in", "--out", "out", "--polygons", "labelme,coco"]
    for _ in range(2):
        assert main([*words, "--json"]) == 1
        said = capsys.readouterr()
        assert "in/pipe.png is no file" in said.err
        assert "is too long" in said.err
        with open("out/predictions.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["mask"] for row in rows] == ["a\\udcff.png", "new\nline.png", "z.png"]
    assert {image["file"] for image in json.loads(said.out)["kept"]} >= {strange, "in/z.png"}
