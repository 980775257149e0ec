"""Writing shards: what is in them, and that no interruption changes them."""

import hashlib
import json
import multiprocessing
import os
import signal
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from truemask.data import sharding
from truemask.data.label_edits import count_classes
from truemask.data.sharding import parse_size, write_shards
from truemask.data.splits import Ratio, resplit
from truemask.data.views import resized
from truemask.datasets import shard_server
from truemask.datasets.camvid import camvid
from truemask.datasets.folder import folder
from truemask.datasets.sample import Parts
from truemask.datasets.shard_manifest import Manifest
from truemask.datasets.shard_places import Folder
from truemask.datasets.shards import read_manifest, shards
from truemask.datasets.textures import textures
from truemask.errors import JobFailed, UsageError
from truemask.miniatures.writing import write_miniature

SIZE = 25_000


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_miniature("camvid", tmp_path_factory.mktemp("camvid"), images=24)


@pytest.fixture(scope="module")
def parts(root):
    return camvid(root)


@pytest.fixture(scope="module")
def written(parts, tmp_path_factory):
    """A set that was written without an interruption."""
    out = tmp_path_factory.mktemp("written")
    summary = write_shards(parts, out, size=SIZE)
    return out, summary


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_sizes():
    assert parse_size("256MB") == 256_000_000
    assert parse_size("1.5 GiB") == 1536 * 1024**2
    assert parse_size("64k") == 64_000
    assert parse_size("512") == parse_size("512 B") == 512
    for text in ("", "big", "-5MB", "5iB", "MB", "5PB"):
        with pytest.raises(UsageError, match="no size"):
            parse_size(text)


def test_a_shard_is_a_plain_tar_of_the_files_as_they_are(parts, written):
    out, _ = written
    manifest = read_manifest(out)
    for part, found in manifest.parts.items():
        entries = []
        for shard in found:
            assert hashlib.sha256((out / shard.name).read_bytes()).hexdigest() == shard.sha256
            with tarfile.open(out / shard.name) as tar:
                places = [(one.offset_data, one.size) for one in tar.getmembers()]
            assert places == [
                (member.offset, member.size)
                for entry in shard.entries
                for member in (entry.image, entry.mask)
            ]
            data = (out / shard.name).read_bytes()
            entries += [(entry, data) for entry in shard.entries]
        assert [entry.name for entry, _ in entries] == list(parts[part].names)
        for (entry, data), pair in zip(entries, parts[part].pairs, strict=True):
            place = entry.image.offset
            assert data[place : place + entry.image.size] == pair.image.read_bytes()


def test_shards_have_about_the_size_and_one_part_each(parts, written):
    out, summary = written
    assert set(summary.parts) == set(parts) == {"train", "validation", "test"}
    sizes = [path.stat().st_size for path in out.glob("*.tar")]
    assert len(sizes) == summary.written == sum(one.shards for one in summary.parts.values()) > 6
    assert sum(one.bytes for one in summary.parts.values()) == sum(sizes)
    for part, one in summary.parts.items():
        assert one.samples == len(parts[part])
        assert one.shards == len(list(out.glob(f"{part}-*.tar"))) > 1
    # The files of a tar are padded, and so is its end.
    assert max(sizes) <= SIZE + tarfile.RECORDSIZE
    assert set(content(out)) == {"manifest.json"} | {path.name for path in out.glob("*.tar")}


def test_the_manifest_counts_pixels_and_comes_back(parts, written):
    out, _ = written
    manifest = read_manifest(out)
    assert manifest.labels == parts["train"].labels
    assert manifest.images == parts["train"].images
    for part, dataset in parts.items():
        counts = np.sum([shard.pixels for shard in manifest.parts[part]], axis=0)
        assert counts.tolist() == count_classes(dataset)
    assert Manifest.decode(manifest.encode(), source="here") == manifest


def test_the_number_of_threads_changes_nothing(parts, written, tmp_path):
    for workers in (1, 5):
        write_shards(parts, tmp_path / str(workers), size=SIZE, workers=workers)
        assert content(tmp_path / str(workers)) == content(written[0])


def test_a_whole_set_is_not_written_again(parts, written):
    out, summary = written
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = write_shards(parts, out, size=SIZE)
    assert (again.written, again.parts) == (0, summary.parts)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def killed_after(files: int, parts, out: Path) -> None:
    """Write in another process, which is killed when it has put so many files into shards."""

    def write() -> None:
        add, done = sharding._add, 0

        def counting(tar, name, data):
            nonlocal done
            if done == files:
                tar.fileobj.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return add(tar, name, data)

        sharding._add = counting
        write_shards(parts, out, size=SIZE, workers=1)

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("files", [0, 7, 30, 47])
def test_after_a_kill_the_same_command_gives_the_same_shards(parts, written, tmp_path, files):
    killed_after(files, parts, tmp_path)
    there = len(list(tmp_path.glob("*.tar")))
    assert "manifest.json" not in content(tmp_path)
    with pytest.raises(UsageError, match=r"manifest\.json is missing"):
        shards(tmp_path)
    summary = write_shards(parts, tmp_path, size=SIZE)
    assert summary.parts == written[1].parts
    assert summary.written == written[1].written - there
    assert content(tmp_path) == content(written[0])


def test_a_shard_that_was_cut_off_since_is_written_again(parts, written, tmp_path):
    killed_after(30, parts, tmp_path)
    (tmp_path / "train-00000.tar").write_bytes(b"short")
    (tmp_path / "train-00001.json").write_text("{")
    write_shards(parts, tmp_path, size=SIZE)
    assert content(tmp_path) == content(written[0])


def test_a_kill_after_the_manifest_leaves_a_whole_set(parts, written, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def remove(self, name):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "remove", remove)
        with pytest.raises(Killed):
            write_shards(parts, tmp_path, size=SIZE)
    assert shards(tmp_path)["train"].names == parts["train"].names
    assert write_shards(parts, tmp_path, size=SIZE).written == 0
    assert content(tmp_path) == content(written[0])


def parted_anew(parts) -> Parts:
    return Parts(resplit(parts, Ratio(shares=(0.5, 0.25, 0.25))))


def test_other_content_is_left_alone(parts, written, tmp_path):
    out, _ = written
    other = "shards of other data, or of another size: choose another folder"
    with pytest.raises(UsageError, match=other):
        write_shards(parts, out, size=SIZE + 1)
    with pytest.raises(UsageError, match=other):
        write_shards(parted_anew(parts), out, size=SIZE)
    killed_after(7, parts, tmp_path / "begun")
    with pytest.raises(UsageError, match=other):
        write_shards(parts, tmp_path / "begun", size=SIZE + 1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds files: choose another folder"):
        write_shards(parts, tmp_path / "mine", size=SIZE)
    assert content(tmp_path / "mine") == {"a.txt": b"mine"}


def test_data_that_changed_since_is_other_data(tmp_path):
    root = write_miniature("folder", tmp_path / "data", images=12)
    killed_after(7, folder(root), tmp_path / "out")
    mask = next((root).rglob("*.png"))
    os.utime(mask, ns=(0, 0))
    with pytest.raises(UsageError, match="shards of other data"):
        write_shards(folder(root), tmp_path / "out", size=SIZE)


def test_parts_made_anew_can_be_sharded(parts, tmp_path):
    made = parted_anew(parts)
    write_shards(made, tmp_path, size=SIZE)
    for name, part in shards(tmp_path).items():
        assert part.names == made[name].names
        assert (part[3].image == made[name][3].image).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: textures(size=16, train=3, validation=2, test=2),
        lambda parts: Parts({name: resized(part, (8, 8)) for name, part in parts.items()}),
    ],
)
def test_only_files_as_they_are_can_be_sharded(parts, tmp_path, change):
    with pytest.raises(UsageError, match="cannot be sharded: only data that lies in files"):
        write_shards(change(parts), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_faulty_file_is_named_and_the_command_goes_on_when_it_is_mended(tmp_path):
    root = write_miniature("folder", tmp_path / "data", images=12)
    parts = folder(root)
    pair = parts["train"].pairs[5]
    whole, times = pair.mask.read_bytes(), pair.mask.stat()
    pair.mask.write_bytes(whole[:-20].ljust(len(whole), b"\0"))
    os.utime(pair.mask, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(UsageError, match=pair.mask.name):
        write_shards(parts, tmp_path / "out", size=SIZE)
    pair.mask.write_bytes(whole)
    os.utime(pair.mask, ns=(times.st_atime_ns, times.st_mtime_ns))
    write_shards(parts, tmp_path / "out", size=SIZE)
    write_shards(parts, tmp_path / "whole", size=SIZE)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_two_cannot_write_one_set_at_a_time(parts, tmp_path):
    tried = []

    def progress(done, total):
        if not tried:
            with pytest.raises(UsageError, match="another process writes to") as caught:
                write_shards(parts, tmp_path, size=SIZE)
            tried.append(caught)

    write_shards(parts, tmp_path, size=SIZE, progress=progress)
    assert tried


def test_progress_counts_samples(parts, tmp_path):
    seen = []
    write_shards(parts, tmp_path, size=SIZE, progress=lambda *told: seen.append(told))
    total = sum(map(len, parts.values()))
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)
    assert len(seen) == len(list(tmp_path.glob("*.tar")))


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setattr(shard_server, "PROTOCOLS", (*shard_server.PROTOCOLS, "memory"))
    monkeypatch.setattr(shard_server, "PAUSE_S", 0.0)
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


def test_a_bucket_gets_the_same_shards(parts, written, bucket, monkeypatch):
    add, done = sharding._add, []

    def failing(tar, name, data):
        done.append(name)
        if len(done) == 30:
            raise KeyboardInterrupt
        return add(tar, name, data)

    monkeypatch.setattr(sharding, "_add", failing)
    with pytest.raises(KeyboardInterrupt):
        write_shards(parts, "memory://bucket/set", size=SIZE)
    there = len(bucket.glob("/bucket/set/*.tar"))
    assert there > 0
    summary = write_shards(parts, "memory://bucket/set", size=SIZE)
    assert summary.written == written[1].written - there
    found = {path.rpartition("/")[2]: bucket.cat_file(path) for path in bucket.find("/bucket/set")}
    assert found == content(written[0])
    assert write_shards(parts, "memory://bucket/set", size=SIZE).written == 0


def test_a_bucket_that_fails_is_one_line(parts, bucket, monkeypatch):
    def put_file(self, *args, **kwargs):
        raise ConnectionError("the line is dead\nand more")

    monkeypatch.setattr(type(bucket), "put_file", put_file)
    with pytest.raises(JobFailed) as caught:
        write_shards(parts, "memory://bucket/set", size=SIZE)
    assert str(caught.value) == (
        "cannot write memory://bucket/set/train-00000.tar: the line is dead; try again later"
    )


def test_a_bucket_that_is_missing_is_not_made(parts, bucket, monkeypatch):
    def pipe_file(self, path, *args, **kwargs):
        raise FileNotFoundError(path)

    monkeypatch.setattr(type(bucket), "pipe_file", pipe_file)
    with pytest.raises(UsageError, match=r"memory://bucket/set/sharding\.json: there is no such"):
        write_shards(parts, "memory://bucket/set", size=SIZE)


def test_a_web_server_cannot_be_written(parts):
    with pytest.raises(UsageError, match="http://host/set cannot be written: give a folder"):
        write_shards(parts, "http://host/set")


def test_a_file_url_is_its_folder(parts, written, tmp_path):
    write_shards(parts, f"file://{tmp_path}/set", size=SIZE)
    assert content(tmp_path / "set") == content(written[0])


def test_a_size_below_a_byte_is_refused(parts, tmp_path):
    with pytest.raises(UsageError, match="size 0 must be at least 1"):
        write_shards(parts, tmp_path, size=0)


def test_the_summary_is_json(written):
    assert json.loads(json.dumps(written[1].to_json()))["parts"]["train"]["samples"] > 0
