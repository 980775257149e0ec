"""Surveys of datasets on disk: parts, files, the cache, the command."""

import json
import os
import signal
import sqlite3
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
from PIL import Image

from truemask.analysis.survey import survey
from truemask.analysis.survey_cache import NAME, CountsCache
from truemask.analysis.survey_pass import Source, count_blocks
from truemask.analysis.survey_result import Survey
from truemask.cli import main
from truemask.datasets.bsds500 import bsds500
from truemask.datasets.folder import folder
from truemask.datasets.paired import PairedDataset
from truemask.errors import UsageError

CLASSES = ["sky", "road", "car"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUEMASK_CACHE", str(tmp_path / "cache"))


def write_folder(root, *, parts=("train", "val", "test"), images=6, mode="RGB", seed=0):
    random = np.random.default_rng(seed)
    for part in parts:
        for kind in ("images", "masks"):
            (root / part / kind).mkdir(parents=True)
        for index in range(images):
            size = (20 + index, 30)
            ids = random.choice(np.array([0, 1, 2, 255], np.uint8), (size[0] // 2 + 1, 15))
            ids = np.kron(ids, np.ones((2, 2), np.uint8))[: size[0], : size[1]]
            if mode == "16-bit L":
                pixels = random.integers(0, 65536, size).astype(np.uint16)
            else:
                pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            name = f"{part}{index:03d}.png"
            Image.fromarray(pixels).save(root / part / "images" / name)
            Image.fromarray(ids).save(root / part / "masks" / name)
    (root / "classes.json").write_text(json.dumps(CLASSES))
    return root


def masks_of(root, part):
    files = sorted((root / part / "masks").glob("*.png"))
    return [np.asarray(Image.open(file)) for file in files]


def pixels_of(root, part):
    files = sorted((root / part / "images").glob("*.png"))
    return [np.asarray(Image.open(file)) for file in files]


def test_a_folder_is_counted_as_its_files_are(tmp_path):
    root = write_folder(tmp_path / "data")
    result = survey(folder(root), name="data", processes=1)
    masks = {part: masks_of(root, part) for part in ("train", "val", "test")}
    everything = [mask for some in masks.values() for mask in some]
    assert result.total.images == 18
    assert {name: part.images for name, part in result.parts.items()} == {
        "train": 6,
        "validation": 6,
        "test": 6,
    }
    labelled = sum(int((mask < 255).sum()) for mask in everything)
    for k, one in enumerate(result.total.classes):
        assert one.name == CLASSES[k]
        assert one.pixels == sum(int((mask == k).sum()) for mask in everything)
        assert one.share == one.pixels / labelled
        assert one.images == sum(bool((mask == k).any()) for mask in everything)
        assert result.total.co_occurrence[k][k] == one.images
        validation = sum(int((mask == k).sum()) for mask in masks["val"])
        assert result.parts["validation"].classes[k].pixels == validation
    assert result.total.ignored == sum(int((mask == 255).sum()) for mask in everything)
    assert sum(map(sum, result.total.heatmaps[0])) == result.total.classes[0].pixels
    train = np.concatenate([pixels.reshape(-1, 3) for pixels in pixels_of(root, "train")]) / 255
    assert result.normalisation is not None
    assert np.allclose(result.normalisation.mean, train.mean(0), rtol=1e-12)
    assert np.allclose(result.normalisation.std, train.std(0), rtol=1e-12)
    assert result.total.modes == {"RGB": 18}
    assert {(size.height, size.width): size.images for size in result.total.sizes} == {
        (20 + index, 30): 3 for index in range(6)
    }
    assert result.keeping[-1].dropped_share == 0.0
    kept = sorted((one.pixels for one in result.parts["train"].classes), reverse=True)
    assert result.keeping[0].dropped_share == pytest.approx(1 - kept[0] / sum(kept))


def test_processes_change_nothing(tmp_path):
    parts = folder(write_folder(tmp_path / "data", images=20))
    one = survey(parts, name="data", processes=1)
    two = survey(parts, name="data", processes=2)
    assert replace(one, seconds=0) == replace(two, seconds=0)


def test_the_result_goes_to_json_and_back(tmp_path):
    result = survey(folder(write_folder(tmp_path / "data")), name="data", processes=1)
    assert Survey.from_json(json.loads(json.dumps(result.to_json()))) == result
    with pytest.raises(UsageError, match="no survey"):
        Survey.from_json({"name": "x"})


def test_sixteen_bits_are_told_and_counted_as_they_reach_the_model(tmp_path):
    root = write_folder(tmp_path / "data", mode="16-bit L")
    result = survey(folder(root), name="data", processes=1)
    assert result.total.modes == {"16-bit L": 18}
    wide = np.concatenate([pixels.reshape(-1) for pixels in pixels_of(root, "train")])
    assert result.normalisation is not None
    assert result.normalisation.mean[0] == pytest.approx((wide / 65535).mean(), abs=1e-4)
    narrow = np.round(wide / 257) / 255
    assert result.normalisation.mean == pytest.approx([narrow.mean()] * 3, rel=1e-12)
    assert result.normalisation.std == pytest.approx([narrow.std()] * 3, rel=1e-12)
    assert any("18 images of 16 bits are read as 8 bits" in note for note in result.notes)


def test_a_single_image_and_no_test_part(tmp_path, capsys):
    root = write_folder(tmp_path / "data", parts=("train",), images=1)
    parts = {"train": folder(root, split=(1, 0, 0))["train"]}
    result = survey(parts, name="one", processes=1)
    assert result.total.images == 1
    assert result.differences == []
    # Also where nobody says that there is nothing to split; a training needs more.
    assert main(["survey", str(root), "--out", str(tmp_path / "o")]) == 0
    assert (tmp_path / "o" / "survey.html").stat().st_size > 10_000
    capsys.readouterr()
    assert main(["train", str(root), "plan=false", f"runs={tmp_path / 'runs'}"]) == 2
    assert "holds 1 image, and at least 3 are needed" in capsys.readouterr().err


def test_the_second_time_nothing_is_decoded(tmp_path):
    root = write_folder(tmp_path / "data")
    cache = CountsCache(tmp_path / "kept")
    first = survey(folder(root), name="data", processes=1, cache=cache)
    second = survey(folder(root), name="data", processes=1, cache=cache)
    assert (first.counted, second.counted) == (18, 0)
    assert replace(first, seconds=0, counted=0) == replace(second, seconds=0)


def test_what_changed_is_counted_again(tmp_path):
    root = write_folder(tmp_path / "data")
    cache = CountsCache(tmp_path / "kept")
    survey(folder(root), name="data", processes=1, cache=cache)
    mask = sorted((root / "train" / "masks").glob("*.png"))[0]
    Image.fromarray(np.full_like(np.asarray(Image.open(mask)), 2)).save(mask)
    os.utime(mask, (1, 1))
    found = survey(folder(root), name="data", processes=1, cache=cache)
    fresh = survey(folder(root), name="data", processes=1)
    assert found.counted == 1
    assert replace(found, seconds=0, counted=0) == replace(fresh, seconds=0, counted=0)


def test_damaged_counts_are_counted_again(tmp_path):
    root = write_folder(tmp_path / "data")
    cache = CountsCache(tmp_path / "kept")
    fresh = survey(folder(root), name="data", processes=1, cache=cache)
    with sqlite3.connect(cache.path) as store:
        values = store.execute("SELECT key, value FROM counts ORDER BY key").fetchall()
        for place, (key, value) in enumerate(values[:6]):
            broken = bytearray(value)
            broken[place * 3] ^= 255
            store.execute("UPDATE counts SET value = ? WHERE key = ?", (bytes(broken), key))
        # One image's counts under the key of another.
        store.execute("UPDATE counts SET value = ? WHERE key = ?", (values[7][1], values[8][0]))
    store.close()
    found = survey(folder(root), name="data", processes=1, cache=CountsCache(tmp_path / "kept"))
    assert found.counted == 7
    assert replace(found, seconds=0, counted=0) == replace(fresh, seconds=0, counted=0)


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(200)])
def test_a_cache_that_is_no_database_does_not_matter(tmp_path, content):
    root = write_folder(tmp_path / "data")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / NAME).write_bytes(content)
    result = survey(folder(root), name="data", processes=1, cache=CountsCache(tmp_path / "kept"))
    assert result.counted == 18
    again = survey(folder(root), name="data", processes=1, cache=CountsCache(tmp_path / "kept"))
    third = survey(folder(root), name="data", processes=1, cache=CountsCache(tmp_path / "kept"))
    assert again.total == third.total == result.total
    assert third.counted == 0


def test_a_cache_in_a_folder_that_cannot_be_written_does_not_matter(tmp_path):
    root = write_folder(tmp_path / "data")
    (tmp_path / "file").write_text("")
    cache = CountsCache(tmp_path / "file" / "below")
    assert survey(folder(root), name="data", processes=1, cache=cache).counted == 18


def test_two_writers_at_once_leave_a_whole_cache(tmp_path):
    parts = folder(write_folder(tmp_path / "data", images=30))
    cache = CountsCache(tmp_path / "kept")
    first = survey(parts, name="data", processes=3, cache=cache)
    second = survey(parts, name="data", processes=3, cache=cache)
    assert second.counted == 0
    assert second.total == first.total


def test_the_cache_keeps_to_its_budget(tmp_path):
    parts = folder(write_folder(tmp_path / "data", images=20))
    cache = CountsCache(tmp_path / "kept", budget=8000)
    survey(parts, name="data", processes=1, cache=cache)
    with sqlite3.connect(cache.path) as store:
        (size,) = store.execute("SELECT sum(length(value)) FROM counts").fetchone()
        (left,) = store.execute("SELECT count(*) FROM counts").fetchone()
    store.close()
    assert 0 < size <= 8000
    assert survey(parts, name="data", processes=1, cache=cache).counted == 60 - left


def test_a_damaged_file_is_named_and_the_others_are_counted(tmp_path, capsys):
    root = write_folder(tmp_path / "data")
    broken = sorted((root / "train" / "images").glob("*.png"))[2]
    broken.write_bytes(broken.read_bytes()[:100])
    code = main(["survey", str(root), "--out", str(tmp_path / "out"), "--json"])
    caught = capsys.readouterr()
    assert code == 1
    lines = [line for line in caught.err.splitlines() if "skipped" in line]
    assert len(lines) == 1
    assert str(broken) in lines[0]
    value = json.loads(caught.out)
    assert (value["total"]["images"], value["total"]["unreadable"]) == (17, 1)
    assert value["total"]["failed"][0][1].startswith(str(broken))
    # The next time it is tried again.
    assert main(["survey", str(root), "--out", str(tmp_path / "out")]) == 1


def test_nothing_usable_is_wrong_input(tmp_path, capsys):
    root = write_folder(tmp_path / "data", images=1)
    for file in root.glob("*/images/*.png"):
        file.write_bytes(file.read_bytes()[:80])
    assert main(["survey", str(root), "--out", str(tmp_path / "out")]) == 2
    assert "none of the 3 images can be used" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_no_survey_made_is_not_overwritten(tmp_path, capsys):
    root = write_folder(tmp_path / "data", images=2)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("survey.json", "survey.html"):
        (out / name).write_text("{}")
        assert main(["survey", str(root), "--out", str(out)]) == 2
        assert f"{out / name} is in the way" in capsys.readouterr().err
        assert (out / name).read_text() == "{}"
        (out / name).unlink()
    assert main(["survey", str(root), "--out", str(out)]) == 0
    assert main(["survey", str(root), "--out", str(out)]) == 0


def test_endless_data_and_no_data_are_wrong_usage(capsys):
    assert main(["survey"]) == 2
    assert "give what to survey" in capsys.readouterr().err
    assert main(["survey", "data=textures"]) == 2
    assert "generated" in capsys.readouterr().err


def test_a_process_that_dies_is_told(tmp_path, capsys, monkeypatch):
    root = write_folder(tmp_path / "data")
    monkeypatch.setattr(PairedDataset, "measured", lambda self, index: os._exit(9))
    out = tmp_path / "out"
    assert main(["survey", str(root), "--workers", "2", "--out", str(out)]) == 1
    assert "a counting process was killed" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "0"], "--workers is 0"),
        (["--workers", "2", "--ray"], "leave it out beside --ray"),
        (["--out", "/proc/none"], "cannot write /proc/none"),
    ],
)
def test_wrong_options_are_told_before_anything_is_read(tmp_path, capsys, words, said):
    assert main(["survey", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err


def test_several_annotators_are_counted_as_one_or_as_each(tmp_path):
    random = np.random.default_rng(0)
    drawn = random.integers(0, 2, (5, 2, 21, 30)) * random.integers(0, 2, (5, 2, 21, 30))
    for part in ("train", "val"):
        (tmp_path / "images" / part).mkdir(parents=True)
        (tmp_path / "groundTruth" / part).mkdir(parents=True)
    for index, (one, other) in enumerate(drawn):
        part, name = ("train", "val")[index > 2], str(index)
        pixels = random.integers(0, 256, (21, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / part / f"{name}.jpg")
        cells = np.empty((1, 2), object)
        for place, lines in enumerate((one, other)):
            cells[0, place] = {"Boundaries": lines.astype(np.uint8)}
        scipy.io.savemat(tmp_path / "groundTruth" / part / f"{name}.mat", {"groundTruth": cells})
    both = survey(bsds500(tmp_path, agreement=1.0), name="x", processes=1).total
    assert both.classes[1].pixels == int((drawn.sum(1) == 2).sum())
    assert both.ignored == int((drawn.sum(1) == 1).sum())
    for annotator in (1, 2):
        alone = survey(bsds500(tmp_path, annotator=annotator), name="x", processes=1).total
        assert alone.classes[1].pixels == int(drawn[:, annotator - 1].sum())
        assert alone.ignored == 0


@contextmanager
def forked(action, said):
    """A process that does this, its standard error in a file; it starts faster than a new one."""
    process = os.fork()
    if process == 0:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        code = 99
        try:
            code = action()
        finally:
            sys.stderr.flush()
            os._exit(code)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(process, 0)


def wait_for(true):
    end = time.monotonic() + 60
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    assert true()


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (signal.SIGINT, "Stopped."),
        (
            signal.SIGTERM,
            "truemask: ended by SIGTERM: what is counted already is known the next time",
        ),
    ],
)
@pytest.mark.parametrize("whole_group", [True, False])
def test_a_signal_ends_it_with_one_line_and_no_result(
    tmp_path, monkeypatch, number, line, whole_group
):
    root = write_folder(tmp_path / "data", images=90, parts=("train",))
    words = ["survey", str(root), "--workers", "2", "--out", str(tmp_path / "out")]
    measured, kept = PairedDataset.measured, tmp_path / "cache" / NAME

    def slowly(self, index):
        time.sleep(0.03)
        return measured(self, index)

    monkeypatch.setattr(PairedDataset, "measured", slowly)
    with forked(lambda: main(words), tmp_path / "said") as process:
        wait_for(kept.exists)
        # A terminal sends Ctrl-C to all of them, and so may a batch system its signals.
        (os.killpg if whole_group else os.kill)(process, number)
        _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert (tmp_path / "said").read_text().strip() == line
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(PairedDataset, "measured", measured)
    # What was counted until then is known the next time.
    result = survey(folder(root), name="data", processes=1, cache=CountsCache(tmp_path / "cache"))
    assert result.total.images == 90
    assert result.counted < 90


@pytest.mark.skipif(sys.platform != "linux", reason="children are read from /proc")
def test_a_kill_without_warning_leaves_no_process(tmp_path):
    parts = folder(write_folder(tmp_path / "data", parts=("train", "val"), images=100))
    counting = tmp_path / "counting"

    def count():
        found = count_blocks(Source.of(parts), processes=2)
        next(found)
        counting.touch()
        time.sleep(60)
        return 0

    with forked(count, tmp_path / "said") as process:
        wait_for(counting.exists)
        with open(f"/proc/{process}/task/{process}/children") as file:
            children = [int(word) for word in file.read().split()]
        assert len(children) >= 2
        time.sleep(0.5)  # until the pipe is full
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        end = time.monotonic() + 10
        while (left := [one for one in children if _runs(one)]) and time.monotonic() < end:
            time.sleep(0.1)
        assert not left


def _runs(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
