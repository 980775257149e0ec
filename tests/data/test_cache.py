"""Kept samples are those of the dataset, whatever becomes of processes, file and disk."""

import errno
import itertools
import logging
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from in_memory import InMemory, numbered
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from truemask.data import cache, cache_file, cache_folder
from truemask.data.cache import FileCache, MemoryCache, cached, fingerprints
from truemask.data.label_edits import Relabelled
from truemask.data.views import Resized, View, fingerprint
from truemask.datasets.paired import PairedDataset
from truemask.datasets.pairing import Pair
from truemask.datasets.sample import Sample
from truemask.datasets.textures import textures
from truemask.datasets.voc import read_palette_mask
from truemask.files import default_cache_folder
from truemask.images import ImageSpec
from truemask.labels import LabelMap

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="files are shared on Unix only"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

LABELS = LabelMap(names=("a", "b", "c"), values={0: 0, 1: 1, 2: 2})
RGB = ImageSpec()
FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None
GREY = ImageSpec(channels=1, dtype="float32", low=0.0, high=1.0)


class Drawn:
    """Samples that follow from their index, of three sizes."""

    def __init__(self, count=40, *, side=20, images=RGB, version="first"):
        self.count, self.side, self.images, self.version = count, side, images, version
        self.labels = LABELS
        self.names = tuple(f"sample {i}" for i in range(count))
        self.reads = []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads.append(index)
        channels, height, width = self.images.channels, self.side + index % 3, self.side
        ramp = torch.arange(channels * height * width).reshape(channels, height, width)
        return Sample(
            image=tv_tensors.Image(ramp.mul(index + 1).remainder(251).to(self.images.torch_dtype)),
            mask=tv_tensors.Mask(ramp[0].add(index).remainder(3).to(torch.uint8)),
            name=self.names[index],
            attributes={"city": f"Åre {index % 2}"},
        )

    def fingerprint(self, index):
        return f"{self.version} {index}".encode()


class Unreadable(Drawn):
    """The same, of whom nothing can be read: what comes out of a cache of it was kept."""

    def __getitem__(self, index):
        raise AssertionError(f"sample {index} was not kept")


def in_file(dataset, folder, *, limit=1 << 40, budget=1 << 50):
    prints = [Drawn.fingerprint(dataset, index) for index in range(len(dataset))]
    return FileCache(dataset, prints=prints, folder=folder, limit=limit, budget=budget)


def is_right(sample, dataset, index):
    drawn = Drawn(len(dataset), side=dataset.side, images=dataset.images)[index]
    return (
        torch.equal(sample.image, drawn.image)
        and torch.equal(sample.mask, drawn.mask)
        and type(sample.image) is tv_tensors.Image
        and type(sample.mask) is tv_tensors.Mask
        and sample.image.dtype == drawn.image.dtype
        and (sample.name, sample.attributes) == (drawn.name, drawn.attributes)
    )


def fill(kept):
    for index in range(len(kept)):
        assert is_right(kept[index], kept.dataset, index)
    return kept


def kept_in(folder, dataset):
    """The indices of the samples that are found in the file, each of which must be right."""
    kept = in_file(dataset, folder)
    found = {index: kept.find(index) for index in range(len(dataset))}
    there = {index: sample for index, sample in found.items() if sample is not None}
    assert all(is_right(sample, dataset, index) for index, sample in there.items())
    return set(there)


def the_file(folder):
    (path,) = (folder / "samples").glob("*.samples")
    return path


@pytest.mark.parametrize("images", [RGB, GREY], ids=["uint8", "float32"])
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_it_gives_exactly_the_samples_of_the_dataset_and_reads_each_once(tmp_path, kind, images):
    data = Drawn(images=images)
    kept = MemoryCache(data, limit=1 << 30) if kind == "memory" else in_file(data, tmp_path)
    for seed in range(3):
        for index in np.random.default_rng(seed).permutation(len(data)).tolist():
            assert is_right(kept[index], data, index)
            assert torch.equal(kept.mask(index), data[index].mask)
            data.reads.pop()
    assert sorted(data.reads) == list(range(len(data)))


def test_what_is_done_to_a_sample_does_not_reach_the_file(tmp_path):
    kept = fill(in_file(Drawn(3), tmp_path))
    sample = kept[1]
    sample.image.zero_()
    sample.mask.fill_(7)
    assert is_right(kept[1], kept.dataset, 1)


def test_it_tells_what_the_dataset_tells(tmp_path):
    bare, telling = Drawn(4), Drawn(4)
    telling.sizes = ((9, 9),) * 4
    telling.attributes = ({"city": "x"},) * 4
    for kept in (MemoryCache(bare, limit=0), in_file(bare, tmp_path)):
        assert (kept.names, len(kept)) == (bare.names, 4)
        assert (kept.labels, kept.images) == (LABELS, RGB)
        assert list(kept.attributes) == [{}] * 4
        assert not hasattr(kept, "sizes")
        assert not kept.endless
        assert kept.resized((5, 6))[0].image.shape == (3, 5, 6)
    for kept in (MemoryCache(telling, limit=0), in_file(telling, tmp_path)):
        assert (kept.sizes, kept.attributes) == (telling.sizes, telling.attributes)


def test_where_samples_are_kept(tmp_path):
    notes = []
    place = partial(cached, limit=800, folder=tmp_path, notes=notes)
    assert isinstance(place(Drawn()), MemoryCache)
    assert not notes
    assert isinstance(place(Drawn(), workers=1), FileCache)
    assert isinstance(place(Drawn(7), processes=2), FileCache)
    assert len(notes) == 1
    assert str(tmp_path) in notes[0]
    # A dataset of somebody's, of whose samples nothing is known before they are read.
    alone = place(InMemory(numbered(3)), workers=4, processes=2)
    assert isinstance(alone, MemoryCache)
    assert alone.limit == 100
    endless = textures(size=32)["train"]
    assert place(endless, workers=2) is endless
    assert cached(data := Drawn(), limit=0, notes=notes, workers=2) is data
    assert len(list((tmp_path / "samples").glob("*.samples"))) == 2


def test_the_default_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("TRUEMASK_CACHE", "/scratch/x")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/user")
    assert default_cache_folder() == Path("/scratch/x")
    monkeypatch.delenv("TRUEMASK_CACHE")
    assert default_cache_folder() == Path("/var/user/truemask")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path.home() / ".cache" / "truemask"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loading_processes_share_the_file(tmp_path, method):
    kept = in_file(Drawn(24), tmp_path)
    assert is_right(kept[5], kept.dataset, 5)  # Opened before the processes are.
    loader = DataLoader(
        kept, batch_size=None, num_workers=2, multiprocessing_context=method, shuffle=True
    )
    names = {sample.name for sample in loader}
    assert names == set(kept.names)
    fill(in_file(Unreadable(24), tmp_path))


def test_an_open_cache_can_be_pickled(tmp_path):
    kept = fill(in_file(Drawn(5), tmp_path))
    again = pickle.loads(pickle.dumps(kept))
    again.dataset = Unreadable(5)
    fill(again)


def load_for_ever(kept, seed, said):
    torch.set_num_threads(1)
    order = np.random.default_rng(seed)
    while True:
        for index in order.permutation(len(kept)).tolist():
            assert is_right(kept[index], kept.dataset, index)
            said.send(index)


def load_once(kept, seed):
    torch.set_num_threads(1)
    for index in np.random.default_rng(seed).permutation(len(kept)).tolist():
        assert is_right(kept[index], kept.dataset, index)


def test_two_writers_at_once(tmp_path):
    kept = in_file(Drawn(300, side=48), tmp_path)
    writers = [FORK.Process(target=load_once, args=(kept, seed)) for seed in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    fill(in_file(Unreadable(300, side=48), tmp_path))
    pixels = sum(4 * 48 * (48 + i % 3) for i in range(300))
    # Few samples were written by both.
    assert pixels < the_file(tmp_path).stat().st_size < 1.5 * pixels


def test_no_sample_is_torn_where_writers_are_killed(tmp_path):
    data = Drawn(300, side=200)
    kept = in_file(data, tmp_path)
    draw = random.Random(0)
    counts = [0]
    for seed in range(30):
        here, there = FORK.Pipe()
        writer = FORK.Process(target=load_for_ever, args=(kept, seed, there))
        writer.start()
        for _ in range(draw.randint(1, 20)):
            assert here.poll(60)
            here.recv()
        time.sleep(draw.uniform(0, 0.002))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(60)
        assert writer.exitcode == -signal.SIGKILL
        if seed % 5 == 4:
            counts.append(len(kept_in(tmp_path, data)))
    assert counts == sorted(counts)
    assert 0 < counts[1] < counts[-1]
    fill(in_file(data, tmp_path))
    assert len(kept_in(tmp_path, Unreadable(300, side=200))) == 300


def die_at(kept, call, share):
    """Add two samples, and die at that call of the system, after a share of what it writes."""
    left = [call]

    def deadly(function, *args):
        left[0] -= 1
        if left[0]:
            return function(*args)
        if function is pwrite:
            descriptor, data, offset = args
            pwrite(descriptor, data[: int(len(data) * share)], offset)
        os.kill(os.getpid(), signal.SIGKILL)

    pwrite = os.pwrite
    for name in ("pwrite", "ftruncate", "replace", "utime"):
        setattr(os, name, partial(deadly, getattr(os, name)))
    for index in range(2):
        kept[index]


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_writer_may_be_killed_at_every_call(tmp_path, share):
    data = Drawn(3)
    ends = []
    for call in itertools.count(1):
        folder = tmp_path / f"{call}"
        kept = in_file(data, folder)
        the_file(folder).unlink()  # The writer makes it.
        writer = FORK.Process(target=die_at, args=(kept, call, share))
        writer.start()
        writer.join(60)
        ends.append(writer.exitcode)
        assert kept_in(folder, data) <= {0, 1}
        fill(in_file(data, folder))
        assert len(kept_in(folder, Unreadable(3))) == 3
        if writer.exitcode == 0:
            break
    # Six calls make and open the file, and four add a sample.
    assert ends == [-signal.SIGKILL] * 14 + [0]


def test_the_limit_holds(tmp_path):
    limit = 20_000
    kept = fill(in_file(Drawn(), tmp_path, limit=limit))
    fill(kept)
    assert the_file(tmp_path).stat().st_size <= limit
    some = kept_in(tmp_path, Unreadable())
    assert 5 < len(some) < 40
    # With more room the rest follows.
    fill(in_file(Drawn(), tmp_path))
    assert len(kept_in(tmp_path, Unreadable())) == 40


def test_the_least_recently_used_goes_first_and_none_that_is_open(tmp_path):
    paths = {}
    for age, version in ((3, "old"), (9, "oldest"), (0, "open")):
        kept = fill(in_file(Drawn(version=version), tmp_path))
        paths[version] = kept._file.path
        then = time.time() - 1000 * age
        os.utime(paths[version], (then, then))
        if version == "open":
            in_use = kept
            os.utime(paths[version], (1, 1))
    other = tmp_path / "samples" / "notes.samples"
    other.touch()
    size = paths["old"].stat().st_size
    # The open one may take all that it was promised, 1 << 40 bytes.
    new = in_file(Drawn(version="new"), tmp_path, limit=size, budget=(1 << 40) + 2 * size)
    assert {name for name, path in paths.items() if path.exists()} == {"old", "open"}
    fill(new)
    fill(in_use)
    # Nothing is left for a fourth, which reads all the same.
    fourth = in_file(Drawn(version="fourth"), tmp_path, limit=size, budget=2 * size)
    assert not paths["old"].exists()
    assert fill(fourth)._file.limit == 0
    assert in_use._file.path.exists()
    assert new._file.path.exists()
    assert other.exists()


def test_a_file_that_is_open_counts_with_what_it_may_become(tmp_path):
    first = in_file(Drawn(version="a"), tmp_path, limit=70_000, budget=100_000)
    second = in_file(Drawn(version="b"), tmp_path, limit=70_000, budget=100_000)
    assert (first._file.limit, second._file.limit) == (70_000, 30_000)
    del first
    third = in_file(Drawn(version="c"), tmp_path, limit=70_000, budget=100_000)
    assert third._file.limit == 70_000


def test_damage_is_found_and_mended(tmp_path):
    fill(in_file(Drawn(), tmp_path))
    path = the_file(tmp_path)
    whole = path.read_bytes()
    draw = random.Random(1)
    for _ in range(40):
        damaged = bytearray(whole)
        start = 0 if draw.random() < 0.2 else draw.randrange(len(whole))
        for place in range(start, min(start + draw.choice([1, 200]), len(whole))):
            damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        fill(fill(in_file(Drawn(), tmp_path)))
        assert len(kept_in(tmp_path, Unreadable())) == 40


def test_a_flipped_bit_costs_one_sample_only(tmp_path):
    fill(in_file(Drawn(), tmp_path))
    path = the_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    data = Drawn()
    fill(in_file(data, tmp_path))
    assert data.reads == [39]


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.3, 0.999])
def test_a_file_that_was_cut_off_is_made_anew(tmp_path, share):
    fill(in_file(Drawn(), tmp_path))
    path = the_file(tmp_path)
    os.truncate(path, int(path.stat().st_size * share))
    fill(in_file(Drawn(), tmp_path))
    assert len(kept_in(tmp_path, Unreadable())) == 40


def test_a_file_that_is_cut_off_while_it_is_open(tmp_path, caplog):
    data = Drawn()
    kept = fill(in_file(data, tmp_path))
    os.truncate(the_file(tmp_path), the_file(tmp_path).stat().st_size // 2)
    fill(fill(kept))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cut off" in caplog.text


def test_a_file_that_is_removed_while_it_is_open(tmp_path):
    kept = fill(in_file(Drawn(20), tmp_path))
    the_file(tmp_path).unlink()
    kept.dataset = Unreadable(20)
    fill(kept)


def test_what_a_writer_left_unfinished_is_removed(tmp_path):
    fill(in_file(Drawn(), tmp_path))
    left = the_file(tmp_path).with_suffix(".part")
    left.write_bytes(b"half of a header")
    in_file(Drawn(), tmp_path)
    assert not left.exists()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    notes = []
    kept = cached(Drawn(), limit=80_000, folder=tmp_path / "file", notes=notes, workers=2)
    assert isinstance(fill(kept), MemoryCache)
    assert kept.limit == 40_000
    assert len(notes) == 1
    assert "cannot be used" in notes[0]


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("only root may mount a disk, and not everywhere")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk(disk, caplog, monkeypatch):
    monkeypatch.setattr(cache_file, "KEEP_FREE", -1 << 40)
    data = Drawn(400, side=64)
    kept = fill(in_file(data, disk))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "No space left" in caplog.text
    some = kept_in(disk, Unreadable(400, side=64))
    assert 60 < len(some) < 130
    fill(kept)
    assert len(data.reads) == 2 * 400 - len(some)
    # Where it is full before there is a file, samples are kept in memory.
    the_file(disk).unlink()
    del kept
    with (disk / "filler").open("wb") as filler, pytest.raises(OSError, match="No space left"):
        filler.write(bytes(3 << 20))
    notes = []
    kept = cached(Drawn(), limit=1 << 20, folder=disk, notes=notes, workers=1)
    assert isinstance(fill(kept), MemoryCache)
    assert "No space left" in notes[0]


def test_a_read_only_disk(disk, monkeypatch):
    monkeypatch.setattr(cache_file, "KEEP_FREE", -1 << 40)
    fill(in_file(Drawn(20), disk))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    # What was kept is read; the rest, of another dataset, is kept in memory.
    fill(in_file(Unreadable(20), disk))
    notes = []
    other = cached(Drawn(21), limit=1 << 20, folder=disk, notes=notes, workers=1)
    assert isinstance(fill(other), MemoryCache)
    assert "ead-only" in notes[0]


def test_some_of_the_disk_stays_free(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(cache_file, "KEEP_FREE", 1 << 60)
    data = Drawn(9)
    fill(fill(in_file(data, tmp_path)))
    assert len(data.reads) == 18
    assert len(caplog.records) == 1
    assert "nearly full" in caplog.text


@pytest.mark.parametrize("call", ["pwrite", "ftruncate", "fstatvfs", "pread", "preadv"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_fails_never_fails_the_training(tmp_path, caplog, monkeypatch, call, number):
    kept = in_file(Drawn(), tmp_path)
    kept[3]

    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    fill(fill(kept))
    assert len(caplog.records) == 1
    assert os.strerror(number) in caplog.text


def test_a_suspended_process_that_holds_the_lock_holds_up_nobody(tmp_path):
    kept = in_file(Drawn(3), tmp_path)
    with cache_folder.locked(tmp_path / "samples", seconds=0):
        start = time.monotonic()
        assert is_right(kept[1], kept.dataset, 1)
        assert time.monotonic() - start < 5
        assert kept.find(1) is None
    kept[1]
    assert is_right(kept.find(1), kept.dataset, 1)


def test_memory_does_not_grow(tmp_path):
    kept = fill(in_file(Drawn(100, side=200), tmp_path))
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("memory is read from /proc")

    def resident():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    fill(kept)
    before = resident()
    fill(kept)
    # The file has 16 MB.
    assert resident() - before < 4 << 20


@pytest.fixture
def files(tmp_path):
    pairs = []
    for i in range(3):
        image, mask = tmp_path / f"{i}.png", tmp_path / f"{i}_mask.png"
        values = np.random.default_rng(i)
        Image.fromarray(values.integers(0, 256, (9, 14, 3), np.uint8)).save(image)
        Image.fromarray(values.integers(0, 3, (9, 14), np.uint8)).save(mask)
        pairs.append(Pair(None, f"{i}", image, mask, {"city": "x"}))
    return PairedDataset(pairs=tuple(pairs), labels=LABELS)


def key(dataset):
    prints = fingerprints(dataset)
    return None if prints is None else cache._key(dataset, prints)


def test_the_key_stays_where_nothing_changed(files):
    assert key(files) == key(replace(files)) == key(pickle.loads(pickle.dumps(files)))
    whole = View.of([files])
    assert key(whole) == key(View.of([replace(files)]))
    # Counts are of the masks, and no part of what is read.
    assert key(files) == key(replace(files, class_pixels=(1, 2, 3), ignored_pixels=0))


def test_the_key_changes_with_all_that_changes_a_sample(files, monkeypatch, tmp_path):
    first, *others = files.pairs
    merged = LabelMap(names=("a", "b"), values={0: 0, 1: 1, 2: 1})
    versions = {
        "as it is": files,
        "size": files.resized((5, 5)),
        "another size": files.resized((5, 6)),
        "resized afterwards": Resized(dataset=files, size=(5, 5)),
        "classes": replace(files, labels=merged),
        "relabelled": Relabelled(dataset=files, labels=merged),
        "relabelled otherwise": Relabelled(
            dataset=files, labels=LabelMap(names=("a", "b"), values={0: 0, 1: 1, 2: 0})
        ),
        "kind of image": replace(files, images=ImageSpec(channels=1)),
        "reader": replace(files, read_raw=read_palette_mask),
        "its setting": replace(files, read_raw=partial(read_palette_mask, 1)),
        "masks fitted": replace(files, fit_masks=True),
        "fewer": View.of([files]).take([0, 1]),
        "order": View.of([files]).take([0, 2, 1]),
        "name": replace(files, pairs=(replace(first, name="x"), *others)),
        "attribute": replace(files, pairs=(replace(first, attributes={"city": "y"}), *others)),
        "another mask": replace(files, pairs=(replace(first, mask=others[0].mask), *others)),
    }
    keys = {name: key(dataset) for name, dataset in versions.items()}
    assert None not in keys.values()
    monkeypatch.setattr(cache, "_code", lambda: "another version")
    keys["code"] = key(files)
    monkeypatch.undo()
    then = first.mask.stat().st_mtime_ns
    os.utime(first.mask, ns=(then, then + 1))
    keys["time"] = key(files)
    os.utime(first.mask, ns=(then, then))
    assert key(files) == keys["as it is"]
    with first.mask.open("ab") as file:
        file.write(b"\0")
    os.utime(first.mask, ns=(then, then))
    keys["bytes"] = key(files)
    assert len(set(keys.values())) == len(keys)


def test_the_code_that_decodes_is_part_of_the_key(monkeypatch, tmp_path):
    for folder in ("data", "datasets"):
        (tmp_path / folder).mkdir()
    for name in ("images.py", "labels.py", "data/cache.py", "datasets/reading.py"):
        (tmp_path / name).write_text("a = 1\n")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "data" / "cache.py"))
    before = cache._code.__wrapped__()
    assert cache._code.__wrapped__() == before
    (tmp_path / "datasets" / "reading.py").write_text("a = 2\n")
    assert cache._code.__wrapped__() != before


def test_what_somebody_elses_code_reads_is_not_known(files, tmp_path):
    class Louder(PairedDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)

    theirs = Louder(pairs=files.pairs, labels=LABELS)
    assert fingerprint(files, 0) is not None
    assert fingerprint(theirs, 0) is None
    assert fingerprint(View.of([theirs]), 0) is None
    assert fingerprint(Resized(dataset=theirs, size=(5, 5)), 0) is None
    assert fingerprint(replace(files, read_raw=lambda path: None), 0) is None
    assert fingerprint(replace(files, read_raw=partial(np.load)), 0) is None
    assert fingerprint(InMemory(["a"]), 0) is None
    files.pairs[0].mask.unlink()
    assert fingerprint(files, 0) is None


def test_a_file_that_changes_during_the_training_is_not_kept_as_the_old_one(files, tmp_path):
    kept = cached(files, limit=1 << 20, folder=tmp_path, notes=[], workers=1)
    before = kept[1]
    Image.fromarray(np.full((9, 14), 2, np.uint8)).save(files.pairs[0].mask)
    assert int(kept[0].mask.min()) == 2
    assert kept.find(0) is None
    assert torch.equal(kept.find(1).image, before.image)


def test_a_relabelled_view_of_resized_files_is_kept_as_it_is_read(files, tmp_path):
    labels = LabelMap(names=("c", "a"), values={2: 0, 0: 1, 1: 255})
    data = Relabelled(dataset=View.of([files]).take([2, 0]).resized((5, 7)), labels=labels)
    kept = cached(data, limit=1 << 20, folder=tmp_path, notes=[], workers=1)
    for _ in range(2):
        for index in range(2):
            assert torch.equal(kept[index].image, data[index].image)
            assert torch.equal(kept[index].mask, data[index].mask)
    assert kept.find(1) is not None
    assert kept.sizes == ((5, 7), (5, 7))
