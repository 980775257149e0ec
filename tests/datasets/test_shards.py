"""Reading shards: the very samples of the files, from a disk or a server, in a bounded cache."""

import functools
import http.server
import multiprocessing
import os
import pickle
import re
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from fsspec.registry import _registry
from image_files import blocks, photo, save, save_palette
from PIL import Image
from torch.utils.data import DataLoader

from truemask.data.sharding import write_shards
from truemask.data.views import View
from truemask.datasets import shard_server
from truemask.datasets.bsds500 import bsds500
from truemask.datasets.cityscapes import cityscapes
from truemask.datasets.folder import folder
from truemask.datasets.gta5 import gta5
from truemask.datasets.shard_cache import CachedShards, _locked
from truemask.datasets.shard_manifest import MANIFEST
from truemask.datasets.shards import read_manifest, shards
from truemask.datasets.voc import voc
from truemask.errors import JobFailed, UsageError
from truemask.miniatures.writing import write_miniature

SIZE = 60_000


def write_varied(root: Path) -> None:
    """Files that are turned, grey, of 16 bits, of several formats, with masks of colours."""
    colors = [(0, 0, 0), (250, 10, 10), (10, 250, 10)]
    turned = Image.Exif()
    turned[0x0112] = 6
    mask = blocks(0, 1, 2, height=20, width=30)
    for index in range(8):
        save(root / f"images/{index}.jpg", photo(20, 30, seed=index), quality=90)
        save_palette(root / f"masks/{index}.png", np.roll(mask, index, axis=1), colors)
    save(root / "images/turned.jpg", photo(30, 20), exif=turned)
    save_palette(root / "masks/turned.png", mask, colors)
    save(root / "images/grey.png", photo(20, 30)[..., 0])
    save_palette(root / "masks/grey.png", mask, colors)
    save(root / "images/tiff.tif", photo(24, 16))
    save_palette(root / "masks/tiff.png", blocks(2, 1, height=24, width=16), colors)
    save(root / "images/bitmap.bmp", photo(20, 30))
    save_palette(root / "masks/bitmap.png", mask, colors)


def write_gta5(root: Path) -> None:
    """A mask that is smaller than its image, as a few are."""
    write_miniature("gta5", root, images=12)
    path = sorted((root / "labels").glob("*.png"))[0]
    with Image.open(path) as whole:
        small = whole.resize((whole.width // 2 + 1, whole.height // 2), Image.Resampling.NEAREST)
    small.save(path)


def write_of(name):
    return functools.partial(write_miniature, name, images=12)


KINDS = {
    "varied": (write_varied, folder),
    "cityscapes": (write_of("cityscapes"), cityscapes),
    "gta5": (write_gta5, gta5),
    "voc2012": (write_of("voc2012"), voc),
    "bsds500": (write_of("bsds500"), bsds500),
}


@pytest.fixture(scope="module", params=KINDS)
def both(request, tmp_path_factory):
    """The parts as files, and as shards."""
    if request.param == "bsds500":
        pytest.importorskip("scipy")
    write, open_parts = KINDS[request.param]
    root, out = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("shards")
    write(out=root) if isinstance(write, functools.partial) else write(root)
    parts = open_parts(root)
    write_shards(parts, out, size=SIZE)
    return parts, shards(out)


def assert_same(one, other):
    assert (one.name, one.attributes) == (other.name, other.attributes)
    for a, b in ((one.image, other.image), (one.mask, other.mask)):
        assert type(a) is type(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_samples_are_those_of_the_files(both):
    files, sharded = both
    assert list(sharded) == list(files)
    for name, part in files.items():
        assert len(sharded[name]) == len(part) > 0
        for index in range(len(part)):
            assert_same(sharded[name][index], part[index])
            assert torch.equal(sharded[name].mask(index), part.mask(index))


def test_resized_samples_are_those_of_the_files(both):
    files, sharded = both
    for name, part in files.items():
        for size in ((10, 14), (9, 40)):
            small, other = part.resized(size), sharded[name].resized(size)
            assert other.sizes == small.sizes == (size,) * len(part)
            for index in range(len(part)):
                assert_same(other[index], small[index])
                assert torch.equal(other.mask(index), small.mask(index))


def test_what_is_known_without_pixels_is_that_of_the_files(both):
    files, sharded = both
    for name, part in files.items():
        other = sharded[name]
        for key in ("names", "attributes", "sizes", "labels", "images"):
            assert getattr(other, key) == getattr(part, key)
        if part.class_pixels is not None:
            assert (other.class_pixels, other.ignored_pixels) == (
                part.class_pixels,
                part.ignored_pixels,
            )
    assert sharded.division == files.division
    assert set(files.notes) < set(sharded.notes)


def test_nothing_is_opened_for_it(both, monkeypatch):
    _, sharded = both

    def refuse(*args):
        raise AssertionError("a shard was opened")

    for part in sharded.values():
        monkeypatch.setattr(part.store, "open", refuse, raising=True)
        assert len(part.names) == len(part.sizes) == len(part.attributes) == len(part.groups)
        with pytest.raises(AssertionError, match="was opened"):
            part[0]


def test_groups_are_the_shards_in_order(both):
    _, sharded = both
    for part in sharded.values():
        assert list(part.groups) == sorted(part.groups)
        assert set(part.groups) == set(range(len(part.shards)))


def test_fingerprints_tell_samples_and_sizes_apart(both):
    _, sharded = both
    part = sharded["train"]
    prints = [part.fingerprint(index) for index in range(len(part))]
    assert len(set(prints)) == len(part)
    assert part.resized((8, 8)).fingerprint(0) != prints[0]
    assert pickle.loads(pickle.dumps(part)).fingerprint(0) == prints[0]


# From here on one set of 20 samples in a dozen shards, on a server.


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = write_miniature("camvid", tmp_path_factory.mktemp("files"), images=20)
    out = tmp_path_factory.mktemp("shards")
    parts = folder(root)
    write_shards(parts, out, size=25_000)
    return parts, out


@pytest.fixture
def copy(written, tmp_path):
    """A copy of the set, to be damaged."""
    target = tmp_path / "copy"
    target.mkdir()
    for path in written[1].iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        name = self.path.rpartition("/")[2]
        with server.lock:
            server.asked[name] += 1
            status = server.statuses.pop(0) if server.statuses and name != MANIFEST else 200
            cut = server.cuts.pop(0) if server.cuts and name != MANIFEST else None
        time.sleep(server.delay)
        path = server.root / name
        if status != 200 or not path.is_file():
            self.send_error(status if status != 200 else 404)
            return
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Starts a server of a folder: what it was asked, and how it is to fail."""
    monkeypatch.setattr(shard_server, "PAUSE_S", 0.0)
    started = []

    def start(root):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.root, server.asked, server.lock = root, Counter(), threading.Lock()
        server.statuses, server.cuts, server.delay = [], [], 0.0
        server.url = f"http://127.0.0.1:{server.server_port}/some/set"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.shutdown()
        server.server_close()
        thread.join()


def everything(parts):
    return [part[index] for part in parts.values() for index in range(len(part))]


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "shards").glob("*"))


def total_size(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("*.tar"))


def test_a_server_gives_the_samples_and_is_asked_once(written, serve, tmp_path):
    parts, out = written
    server = serve(out)
    for _ in range(2):  # Another run finds them in the folder.
        found = shards(server.url, folder=tmp_path)
        for one, other in zip(everything(found), everything(parts), strict=True):
            assert_same(one, other)
    names = {path.name for path in out.glob("*.tar")}
    assert server.asked == Counter(dict.fromkeys(names, 1)) + Counter({MANIFEST: 2})
    assert {path.read_bytes() for path in kept(tmp_path) if path.suffix == ".tar"} == {
        path.read_bytes() for path in out.glob("*.tar")
    }
    assert {path.suffix for path in kept(tmp_path)} <= {".tar", ""}


def test_only_the_shards_of_what_is_read_are_fetched(written, serve, tmp_path):
    _, out = written
    server = serve(out)
    found = shards(server.url, folder=tmp_path)
    found["validation"][0]
    assert server.asked == {MANIFEST: 1, "validation-00000.tar": 1}


def test_a_broken_connection_is_tried_again(written, serve, tmp_path):
    parts, out = written
    server = serve(out)
    found = shards(server.url, folder=tmp_path)
    server.cuts = [1000, 0, 20_000]
    assert_same(found["train"][0], parts["train"][0])
    assert server.asked["train-00000.tar"] == 4
    server.statuses = [503, 429]
    last = len(parts["train"]) - 1
    assert_same(found["train"][last], parts["train"][last])


def test_a_server_that_dies_is_one_line(written, serve, tmp_path):
    _, out = written
    server = serve(out)
    found = shards(server.url, folder=tmp_path)
    server.cuts = [1000] * 9
    with pytest.raises(JobFailed) as caught:
        found["train"][0]
    assert re.fullmatch(
        r"cannot read http://[\d.:]+/some/set/train-00000\.tar: .+; try again later",
        str(caught.value),
    )
    assert server.asked["train-00000.tar"] == 4
    assert all(path.suffix == "" for path in kept(tmp_path))  # nothing but the lock
    server.shutdown()
    server.server_close()
    with pytest.raises(JobFailed, match=r"train-00000\.tar: "):
        found["train"][0]


def test_a_refusal_is_not_repeated(written, serve, tmp_path):
    server = serve(written[1])
    found = shards(server.url, folder=tmp_path)
    server.statuses = [403] * 4
    with pytest.raises(UsageError, match=r"train-00000\.tar: .*403.*: check the URL"):
        found["train"][0]
    assert server.asked["train-00000.tar"] == 1


def test_missing_and_damaged_shards_of_a_server_are_named(copy, serve, tmp_path):
    server = serve(copy)
    found = shards(server.url, folder=tmp_path)
    (copy / "train-00000.tar").unlink()
    with pytest.raises(UsageError, match=r"/some/set/train-00000\.tar is missing: copy"):
        found["train"][0]
    (copy / "train-00000.tar").write_bytes((copy / "train-00001.tar").read_bytes())
    with pytest.raises(UsageError, match=r"/some/set/train-00000\.tar is damaged or another file"):
        found["train"][0]
    assert all(path.suffix == "" for path in kept(tmp_path))
    (copy / MANIFEST).unlink()
    with pytest.raises(UsageError, match=r"/some/set/manifest\.json is missing"):
        shards(server.url, folder=tmp_path)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_damaged_shards_on_the_disk_are_named(copy):
    found = shards(copy)["train"]
    entry = read_manifest(copy).parts["train"][0].entries[0]
    first = copy / "train-00000.tar"
    whole = first.read_bytes()
    for member in (entry.image, entry.mask):
        flip(first, member.offset + member.size // 2)
        with pytest.raises(UsageError, match=re.escape(f"{first} ({entry.name}) is damaged")):
            found[0]
        first.write_bytes(whole)
    found[0]
    first.write_bytes(whole[:-512])
    with pytest.raises(UsageError, match=re.escape(f"{first} has {len(whole) - 512:,} bytes ")):
        found[0]
    first.unlink()
    with pytest.raises(UsageError, match=re.escape(f"{first} is missing")):
        found[0]


def test_a_damaged_copy_in_the_cache_is_fetched_again(written, serve, tmp_path):
    parts, out = written
    server = serve(out)
    found = shards(server.url, folder=tmp_path)["train"]
    found[0]
    (path,) = (path for path in kept(tmp_path) if path.suffix == ".tar")
    flip(path, read_manifest(out).parts["train"][0].entries[0].image.offset + 9)
    assert_same(found[0], parts["train"][0])
    path.write_bytes(b"")
    assert_same(found[0], parts["train"][0])
    assert server.asked["train-00000.tar"] == 3


def test_the_cache_is_bounded_and_keeps_what_was_used_last(written, serve, tmp_path):
    parts, out = written
    server = serve(out)
    limit = 4 * max(path.stat().st_size for path in out.glob("*.tar"))
    assert total_size(out) > 2 * limit
    found = shards(server.url, folder=tmp_path, cache=limit, window=2)["train"]
    order = np.random.default_rng(0).integers(0, len(found), 60)
    used: list[int] = []
    for index in order.tolist():
        before = server.asked.total()
        assert_same(found[index], parts["train"][index])
        group = found.groups[index]
        if group in used[-3:]:
            assert server.asked.total() == before
        used = [one for one in used if one != group] + [group]
        assert total_size(tmp_path / "shards") <= limit
    assert server.asked.total() > len(found.shards)


def test_other_files_in_the_folder_are_left_alone(written, serve, tmp_path):
    server = serve(written[1])
    limit = 3 * max(path.stat().st_size for path in written[1].glob("*.tar"))
    (tmp_path / "shards").mkdir()
    mine = [tmp_path / "shards" / name for name in ("mine.tar", "x.part", "12.34.part")]
    for path in mine:
        path.write_bytes(bytes(limit))
    everything(shards(server.url, folder=tmp_path, cache=limit, window=1))
    assert all(path.stat().st_size == limit for path in mine)


def in_processes(count, call):
    """Run a function in several processes at once; their exit codes."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=call, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def test_of_processes_that_need_a_shard_one_fetches_it(written, serve, tmp_path):
    parts, out = written
    server = serve(out)
    server.delay = 0.3
    found = shards(server.url, folder=tmp_path)["train"]

    def read(number):
        assert_same(found[0], parts["train"][0])

    assert in_processes(4, read) == [0] * 4
    assert server.asked["train-00000.tar"] == 1


def test_processes_share_a_cache_that_is_too_small_for_them(written, serve, tmp_path):
    """Each reads all shards in another order; none starves, and the bound holds all the time."""
    parts, out = written
    server = serve(out)
    limit = int(2.1 * max(path.stat().st_size for path in out.glob("*.tar")))
    found = shards(server.url, folder=tmp_path, cache=10**9)["train"]
    found.store.limit = limit
    sizes = {shard.sha256: shard.size for shard in read_manifest(out).shards()}
    server.delay = 0.01
    over, stop = [], threading.Event()

    def watch():
        while not stop.wait(0.002):
            if not (tmp_path / "shards").exists():
                continue
            with _locked(tmp_path / "shards" / "lock"):  # no file comes while they are listed
                names = os.listdir(tmp_path / "shards")
            there = {name.partition(".")[0] for name in names if name.endswith((".tar", ".part"))}
            taken = sum(sizes[checksum] for checksum in there)
            if taken > limit:
                over.append(taken)

    watcher = threading.Thread(target=watch)
    watcher.start()

    def read(number):
        for index in np.random.default_rng(number).permutation(len(found)).tolist():
            assert_same(found[index], parts["train"][index])

    try:
        assert in_processes(4, read) == [0] * 4
    finally:
        stop.set()
        watcher.join()
    assert not over


def test_what_a_killed_process_was_fetching_is_fetched_anew(written, serve, tmp_path):
    parts, out = written
    server = serve(out)
    found = shards(server.url, folder=tmp_path)["train"]

    def die(number):
        found.store._receive = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        found[0]

    assert in_processes(1, die) == [-signal.SIGKILL]
    left = [path.suffix for path in kept(tmp_path)]
    assert ".part" in left
    limit = 3 * max(path.stat().st_size for path in out.glob("*.tar"))
    small = shards(server.url, folder=tmp_path, cache=limit, window=1)["train"]
    last = len(small) - 1
    assert_same(small[last], parts["train"][last])  # makes room
    assert ".part" not in [path.suffix for path in kept(tmp_path)]
    assert_same(small[0], parts["train"][0])


def test_loading_processes_give_the_samples(written, serve, tmp_path):
    parts, out = written
    server = serve(out)
    found = shards(server.url, folder=tmp_path)["train"]
    found[0]  # The main process has used the server, and is forked.
    loaded = list(DataLoader(found, batch_size=None, num_workers=2))
    for one, other in zip(loaded, everything({"": parts["train"]}), strict=True):
        assert_same(one, other)
    assert all(count == 1 for count in server.asked.values())


def wait_until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def test_prefetched_shards_are_there(written, serve, tmp_path):
    parts, out = written
    server = serve(out)
    found = shards(server.url, folder=tmp_path)["train"]
    for group in (1, 1, 2):
        found.prefetch(group)
    wait_until(lambda: len([path for path in kept(tmp_path) if path.suffix == ".tar"]) == 2)
    assert server.asked == {MANIFEST: 1, "train-00001.tar": 1, "train-00002.tar": 1}
    index = found.groups.index(2)
    assert_same(found[index], parts["train"][index])
    assert server.asked["train-00002.tar"] == 1
    pickle.dumps(found)


def test_a_failed_prefetch_shows_when_the_shard_is_read(written, serve, tmp_path):
    server = serve(written[1])
    found = shards(server.url, folder=tmp_path)["train"]
    server.statuses = [403]
    found.prefetch(0)
    wait_until(lambda: server.asked["train-00000.tar"] == 1)
    found[0]


def test_shards_of_a_folder_need_no_fetching(written):
    found = shards(written[1])["train"]
    found.prefetch(0)
    assert found.store.root == written[1]


def test_a_file_url_goes_through_the_cache(written, tmp_path):
    parts, out = written
    found = shards(f"file://{out}", folder=tmp_path)
    assert isinstance(found["train"].store, CachedShards)
    for one, other in zip(everything(found), everything(parts), strict=True):
        assert_same(one, other)
    assert len([path for path in kept(tmp_path) if path.suffix == ".tar"]) == len(
        list(out.glob("*.tar"))
    )


def test_a_view_of_shards_gives_the_samples(written):
    parts, out = written
    view, other = View.of(shards(out).values()), View.of(parts.values())
    assert view.names == other.names
    assert_same(view[5], other[5])


def test_the_default_folder_is_the_users(written, serve, tmp_path, monkeypatch):
    server = serve(written[1])
    monkeypatch.setenv("TRUEMASK_CACHE", str(tmp_path / "own"))
    assert shards(server.url)["train"].store.folder == tmp_path / "own" / "shards"
    monkeypatch.delenv("TRUEMASK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert shards(server.url)["train"].store.folder == tmp_path / "xdg" / "truemask" / "shards"


def test_a_cache_that_would_thrash_is_refused(written, serve, tmp_path):
    server = serve(written[1])
    largest = max(path.stat().st_size for path in written[1].glob("*.tar"))
    with pytest.raises(UsageError, match=rf"holds 2 shards .* give at least {5 * largest}, or"):
        shards(server.url, folder=tmp_path, cache=2 * largest, window=3)
    shards(server.url, folder=tmp_path, cache=5 * largest, window=3)
    shards(server.url, folder=tmp_path, cache=total_size(written[1]), window=999)
    with pytest.raises(UsageError, match="window 0 must be at least 1, or null"):
        shards(server.url, window=0)


@pytest.mark.parametrize(
    "root", ["ssh://host/set", "simplecache::http://host/set", "http://host/set::x", "a://b"]
)
def test_urls_of_other_kinds_are_refused(root):
    with pytest.raises(UsageError, match="is not a URL that shards are read from"):
        shards(root)


def test_passwords_are_not_shown(tmp_path):
    with pytest.raises(UsageError) as caught:
        shards("ssh://me:secret@host/set")
    assert "secret" not in str(caught.value)


def test_a_bucket_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(UsageError, match=r"s3://bucket/set.*pip install 'truemask\[s3\]'"):
        shards("s3://bucket/set")


def test_a_folder_without_a_set_is_one_line(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match=r"manifest\.json is missing: give a folder that"):
            shards(root)


BAD = {
    "not json": lambda text: text[:-9],
    "no object": lambda text: "[]",
    "another format": lambda text: text.replace("shards 1", "shards 2"),
    "a path": lambda text: text.replace('"train-00000.tar"', '"../train-00000.tar"'),
    "twice": lambda text: text.replace('"train-00001.tar"', '"train-00000.tar"'),
    "no checksum": lambda text: re.sub(r'"sha256": "\w+"', '"sha256": "../../x"', text),
    "behind its end": lambda text: re.sub(r'"bytes": \d+', '"bytes": 2000', text),
    "negative": lambda text: re.sub(r'("samples": \[\["[^"]+", )(\d+)', r"\1-5", text),
    "no numbers": lambda text: re.sub(r'("samples": \[\["[^"]+", )(\d+)', r'\1"5"', text),
    "no counts": lambda text: re.sub(r'"pixels": \[\d+, ', '"pixels": [', text),
    "no parts": lambda text: text.replace('"train": [', '"a": [').replace(
        '"validation": [', '"b": ['
    ).replace('"test": [', '"c": ['),
    "nested": lambda text: "[" * 200_000,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_manifest_that_anybody_may_have_written(copy, name):
    path = copy / MANIFEST
    text = path.read_text()
    changed = BAD[name](text)
    assert changed != text
    path.write_text(changed)
    with pytest.raises(UsageError, match="is not a manifest of shards"):
        shards(copy)


def test_ids_of_no_class_are_refused(tmp_path, written):
    parts, _ = written
    write_shards(parts, tmp_path, size=25_000)
    path = tmp_path / MANIFEST
    manifest = read_manifest(tmp_path)
    name = manifest.labels.names[-1]
    text = path.read_text()
    found = re.search(rf', \{{"id": \d+, "name": "{re.escape(name)}"[^}}]*\}}', text)
    text = text.replace(found[0], "")
    text = re.sub(r'("pixels": \[)\d+, ', r"\1", text)
    path.write_text(text)
    with pytest.raises(UsageError, match="stands? in no class"):
        everything(shards(tmp_path))
