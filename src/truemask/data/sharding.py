"""Writing data as shards: files as they are, masks as class ids, and a manifest last.

Each shard is followed by `NAME.json`, what the manifest will say of it, so that the same command
goes on after a crash; these go when the manifest is there. The shards that come out are the same.
"""

import hashlib
import io
import json
import os
import re
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from truemask.data.shard_encoding import Source, encode, source_of
from truemask.data.views import Progress
from truemask.datasets.sample import Parts
from truemask.datasets.shard_manifest import MANIFEST, Entry, Manifest, Member, Shard, dump
from truemask.datasets.shard_places import Place, writable_place
from truemask.errors import UsageError
from truemask.files import explain_os_errors

SHARD_BYTES = 256_000_000
"""The usual size: some seconds to fetch, and some hundred photos."""

_BEGUN = "sharding.json"
"""Says whose shards these are while the manifest is not there."""

_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True, kw_only=True)
class PartSummary:
    """How a part was sharded.

    Attributes:
        samples: how many it has.
        shards: how many files hold them.
        bytes: of these files.
    """

    samples: int
    shards: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """A set of shards that is whole.

    Attributes:
        out: the folder or URL.
        parts: part -> what it came to.
        written: shards that were written; the others were there from an earlier try.
    """

    out: str
    parts: Mapping[str, PartSummary]
    written: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class _Planned:
    """A shard that is to be written: its name, the number of its first sample, and the samples."""

    name: str
    first: int
    sources: tuple[Source, ...]

    @property
    def state(self) -> str:
        return self.name.replace(".tar", ".json")


def parse_size(text: str) -> int:
    """Bytes, of words such as "256MB" or "1.5 GiB".

    Raises:
        UsageError: it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not found or (found[3] and not found[2]):
        raise UsageError(f"{text!r} is no size: write it as 256MB or 1GiB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _UNITS[found[2]])


def write_shards(
    parts: Parts,
    out: str | Path,
    *,
    size: int = SHARD_BYTES,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ShardSummary:
    """Write the parts of a dataset as shards, or go on with it.

    Args:
        parts: of data that lies in files, at its own size and with its own classes.
        out: a folder, or the URL of one in a bucket; empty, missing, or begun by the same call.
        size: bytes of a shard, about; larger where a single sample is.
        workers: threads that encode masks; None for one a core.
        progress: called with (done, total) after each sample.

    Raises:
        UsageError: the data cannot be sharded, a file of it cannot be used, or `out` holds
            something else or cannot be written.
        JobFailed: the server cannot be reached.
    """
    if size < 1:
        raise UsageError(f"size {size} must be at least 1 byte")
    plan, source = _plan(parts, size)
    planned = [one for shards in plan.values() for one in shards]
    place = writable_place(out)
    with place.alone():
        manifest, written = _begin(place, source), 0
        if manifest is None:
            done, written = _write_missing(planned, place, source, workers, progress)
            manifest = Manifest(
                labels=next(iter(parts.values())).labels,
                images=next(iter(parts.values())).images,
                parts={part: tuple(done[one.name] for one in ones) for part, ones in plan.items()},
                notes=parts.notes,
                division=parts.division,
                source=source,
            )
            place.write(MANIFEST, manifest.encode())
        for name in {_BEGUN, *(one.state for one in planned)} & set(place.names()):
            place.remove(name)
    return ShardSummary(out=str(out), parts=_summary(manifest), written=written)


def _summary(manifest: Manifest) -> dict[str, PartSummary]:
    return {
        part: PartSummary(
            samples=sum(len(shard.entries) for shard in shards),
            shards=len(shards),
            bytes=sum(shard.size for shard in shards),
        )
        for part, shards in manifest.parts.items()
    }


def _plan(parts: Parts, size: int) -> tuple[dict[str, list[_Planned]], str]:
    """What goes into which shard, and a fingerprint of all that the shards depend on."""
    first = next(iter(parts.values()))
    digest = hashlib.sha256(dump([size, first.labels.to_json(), first.images.to_json()]).encode())
    plan = {}
    for part, dataset in parts.items():
        sources = [source_of(dataset, index) for index in range(len(dataset))]
        sizes = []
        for source in sources:
            pair = source.pair
            found = [_stat(path) for path in (pair.image, pair.mask)]
            known = [(status.st_size, status.st_mtime_ns) for status in found]
            digest.update(dump([part, pair.name, dict(pair.attributes), known]).encode())
            sizes.append(sum(status.st_size + 2 * tarfile.BLOCKSIZE for status in found))
        plan[part] = _cut(part, sources, sizes, size)
    return plan, digest.hexdigest()


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _cut(part: str, sources: Sequence[Source], sizes: Sequence[int], limit: int) -> list[_Planned]:
    """Shards of consecutive samples, by the sizes of the files that they come from."""
    starts, total = [0], 0
    for place, size in enumerate(sizes):
        if total + size > limit and place > starts[-1]:
            starts.append(place)
            total = 0
        total += size
    return [
        _Planned(f"{part}-{number:05d}.tar", start, tuple(sources[start:end]))
        for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(sources)], strict=True))
    ]


def _begin(place: Place, source: str) -> Manifest | None:
    """The manifest, where the set is whole already; else say whose shards will be here.

    Raises:
        UsageError: something else is here.
    """
    names = place.names()
    begun = place.read(_BEGUN)
    if MANIFEST in names:
        manifest = Manifest.decode(place.read(MANIFEST) or b"", source=f"{place.root}/{MANIFEST}")
        if manifest.source == source:
            return manifest
    elif begun == dump({"source": source}).encode():
        return None
    elif not names:
        place.write(_BEGUN, dump({"source": source}).encode())
        return None
    what = "shards of other data, or of another size" if MANIFEST in names or begun else "files"
    raise UsageError(f"{place.root} holds {what}: choose another folder, or remove it")


def _write_missing(
    planned: Sequence[_Planned],
    place: Place,
    source: str,
    workers: int | None,
    progress: Progress | None,
) -> tuple[dict[str, Shard], int]:
    """All shards by name, and how many of them had to be written."""
    total = sum(len(one.sources) for one in planned)
    done: dict[str, Shard] = {}
    samples = written = 0
    # Decoding leaves Python's lock free, so that threads are enough.
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        try:
            for one in planned:
                shard = _kept(one, place, source)
                if shard is None:
                    shard = _write(one, place, source, pool)
                    written += 1
                done[one.name] = shard
                samples += len(shard.entries)
                if progress is not None:
                    progress(samples, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return done, written


def _kept(planned: _Planned, place: Place, source: str) -> Shard | None:
    """The shard where an earlier try has written it."""
    try:
        found = json.loads(place.read(planned.state) or b"null")
        shard = Shard.from_json(found["shard"])
    except (ValueError, TypeError, KeyError):
        return None
    if found["source"] != source or place.size(planned.name) != shard.size:
        return None
    return shard


def _write(planned: _Planned, place: Place, source: str, pool: ThreadPoolExecutor) -> Shard:
    entries: list[Entry] = []
    labels = planned.sources[0].dataset.labels
    pixels = np.zeros(256, dtype=np.int64)
    with place.adding(planned.name) as path, explain_os_errors(path):
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, one in enumerate(pool.map(encode, planned.sources), planned.first):
                image = _add(tar, f"{number:08d}.image{one.suffix}", one.image)
                mask = _add(tar, f"{number:08d}.mask.png", one.mask)
                entries.append(Entry(one.name, *one.size, image, mask, one.attributes))
                pixels += one.pixels
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
            size = os.fstat(file.fileno()).st_size
    shard = Shard(
        name=planned.name,
        size=size,
        sha256=checksum,
        pixels=tuple(pixels[[*range(labels.num_classes), labels.ignore_index]].tolist()),
        entries=tuple(entries),
    )
    place.write(planned.state, dump({"source": source, "shard": shard.to_json()}).encode())
    return shard


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> Member:
    """Add a file, with nothing in its header that another run would change."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(header, io.BytesIO(content))
    return Member(offset, len(content), zlib.crc32(content))
