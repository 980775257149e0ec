"""Masks in a bucket, and on whatever else fsspec writes by a URL.

Whoever predicts an image writes its files into a folder of its own first, and puts them into the
bucket when all are there: an object is there as a whole or not at all. What masks say of themselves
stands in their headers, as on a disk; so that nobody has to read a million headers to go on,
it is gathered in OUT/.truemask/*.jsonl too. A line there counts for masks that are older than its
file, by the server's own clock, and as large as it says. Of others the header is read.
"""

import io
import json
import secrets
import tempfile
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from truemask import __version__
from truemask.datasets.shard_server import Server
from truemask.errors import UsageError
from truemask.inference.buckets import require_known
from truemask.inference.records import Record, record_in
from truemask.inference.settings import Settings
from truemask.inference.summary import SUMMARY, PredictedImage, put_rows, rows_of, table_of
from truemask.inference.target import Target
from truemask.labels import LabelMap

_RECORDS = ".truemask"
_HEAD = 2**16
"""Bytes of a mask that hold its header."""

_AT_ONCE = 16
_EVERY_S = 30.0
"""How often records are written, at first; later after every fiftieth of the time until then."""

_MODIFIED = ("LastModified", "last_modified", "updated", "mtime", "created")
"""Where the libraries of fsspec keep when an object was written."""


@contextmanager
def staged(target: Target) -> Iterator[Target]:
    """An image whose files go into a bucket, with a folder on the disk for them until then."""
    if not target.bucket:
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="truemask-masks-") as name:
        folder = Path(name)
        yield replace(target, folder=folder, stem=folder / target.stem)


def send(near: Target, settings: Settings) -> int:
    """Put the files of a `staged` image into its bucket.

    The mask comes first: its header is what allows the other files to be replaced. It never stands
    beside files of another prediction, whenever this is ended.

    Returns:
        The size of the mask in bytes.

    Raises:
        UsageError: they cannot be written.
        JobFailed: the server cannot be reached.
    """
    server = Server(near.bucket)

    def name(file: Path) -> str:
        return file.relative_to(near.folder).as_posix()

    if near.replaces:
        for file in near.owned(_header(server, name(near.mask))):
            if file != near.mask:
                server.remove(name(file))
    for file in near.asked(settings):
        server.send(file, name(file))
    return near.mask.stat().st_size


def _header(server: Server, mask: str) -> Record | None:
    def read(file: BinaryIO) -> Record | None:
        if mask.endswith(".tif"):
            return record_in(file, raster=True)
        head = file.read(_HEAD)
        found = record_in(io.BytesIO(head), raster=False)
        if found is None and len(head) == _HEAD:
            found = record_in(io.BytesIO(head + file.read()), raster=False)
        return found

    return server.look(mask, read)


class OutBucket:
    """See `out.Out`.

    Args:
        url: such as `s3://bucket/masks/`.

    Raises:
        UsageError: the URL is of a kind that is not written.
    """

    folder = Path()

    def __init__(self, url: str) -> None:
        require_known(url, "masks are written to")
        self.url = url.rstrip("/")
        self._server = Server(self.url)
        self._labels: LabelMap | None = None
        self._settings: Settings | None = None
        self._name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        self._written = 0
        self._pending: list[bytes] = []
        self._began = self._flushed = time.monotonic()

    @property
    def shown(self) -> str:
        """See `out.Out`."""
        return self._server.shown

    @cached_property
    def _there(self) -> "_Listing":
        """What is there when this is first asked for."""
        found = _Listing.of(self._server)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            order = sorted(found.segments, key=lambda name: (found.segments[name], name))
            for name, content in zip(order, pool.map(self._server.read, order), strict=True):
                for mask, size, line in _lines(content):
                    found.remember(mask, size, line, found.segments[name])
        return found

    def exists(self, file: Path) -> bool:
        """See `out.Out`."""
        if file == self.folder:
            return len(self._there.codes) > 0
        return self._there.place(file) is not None

    def look_at(self, masks: Iterable[Path]) -> None:
        """See `out.Out`. Reads the headers that no record tells of."""
        there = self._there
        unknown = (mask for mask in masks if there.place(mask) is not None)
        names = [mask.as_posix() for mask in unknown if there.line(mask) is None]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            headers = pool.map(lambda name: _header(self._server, name), names)
            for name, record in zip(names, headers, strict=True):
                if record is not None:
                    line = _line(record, mask=name, size=there.size(Path(name)), file="")
                    there.lines[hash(name)] = line
                    self._pending.append(line)

    def record(self, mask: Path) -> Record | None:
        """See `out.Out`."""
        line = self._there.line(mask)
        return None if line is None else Record.parse(line)

    def open(self, labels: LabelMap, settings: Settings) -> None:
        """See `out.Out`."""
        self._labels, self._settings = labels, settings
        self._table()

    def begin(self, targets: Iterable[Target]) -> None:
        """See `out.Out`."""
        self._there.lines.clear()  # All that is there already has been found.
        self._flush()

    def note(self, found: Sequence[tuple[Target, PredictedImage]]) -> None:
        """See `out.Out`."""
        self._take(found)
        now = time.monotonic()
        if now - self._flushed >= max(_EVERY_S, (now - self._began) / 50):
            self._flush()

    def finish(
        self, images: Sequence[PredictedImage], fresh: Sequence[tuple[Target, PredictedImage]]
    ) -> None:
        """See `out.Out`.

        There are no locks in a bucket. Whoever writes the table last finds all records that were
        written before, since it looks again after that.
        """
        assert self._labels is not None
        self._take(fresh)
        if self._pending:
            self._flush()
        if not images:
            return
        own = {image.mask for image in images}
        for _ in range(20):
            segments = self._segments()
            content, rows = self._table()
            others = (line for name in segments for line in _lines(self._server.read(name)))
            put_rows(rows, _images(others, without=own))
            put_rows(rows, images)
            text = table_of(rows, self._labels).encode()
            if text != content:
                self._server.write(SUMMARY, text)
            if self._segments() == segments:
                return

    def _take(self, found: Sequence[tuple[Target, PredictedImage]]) -> None:
        assert self._settings is not None
        for target, image in found:
            target = next(one for one in target.variants() if one.mask_name == image.mask)
            record = target.record(image.key, image.figures(), self._settings)
            self._pending.append(_line(record, mask=image.mask, size=image.size, file=image.file))

    def _table(self) -> tuple[bytes | None, dict[str, dict[str, str]]]:
        assert self._labels is not None
        content = self._server.read(SUMMARY)
        rows = rows_of(content, self._labels, f"{self.shown}/{SUMMARY}") if content else {}
        return content, rows

    def _segments(self) -> list[str]:
        names = Server(f"{self.url}/{_RECORDS}").names()
        return [f"{_RECORDS}/{name}" for name in names if name.endswith(".jsonl")]

    def _flush(self) -> None:
        """Write the records that are not yet written; without any, prove that one may write."""
        content = b"\n".join(self._pending or [json.dumps({"truemask": __version__}).encode()])
        self._server.write(f"{_RECORDS}/{self._name}-{self._written:05d}.jsonl", content + b"\n")
        if self._pending:
            self._written += 1
            self._pending.clear()
        self._flushed = time.monotonic()


@dataclass(frozen=True)
class _Listing:
    """What lies in a bucket: of names only numbers are kept, of which there may be millions.

    That two names agree by chance would cost no more than a look at what is not there.

    Attributes:
        codes: hashes of the names, sorted.
        times: when they were written, in seconds; NaN where that is not known.
        sizes: in bytes.
        segments: files of records, and their times.
        lines: hash of a mask -> its record.
    """

    codes: "np.ndarray[Any, np.dtype[np.int64]]"
    times: "np.ndarray[Any, np.dtype[np.float64]]"
    sizes: "np.ndarray[Any, np.dtype[np.int64]]"
    segments: dict[str, float]
    lines: dict[int, bytes]

    @classmethod
    def of(cls, server: Server) -> "_Listing":
        """List a folder of a bucket.

        Raises:
            UsageError: it is an object, or there is no right to list it.
            JobFailed: the server cannot be reached.
        """
        codes, times, sizes = array("q"), array("d"), array("q")
        segments: dict[str, float] = {}
        for name, entry in server.walk():
            if not name:
                raise UsageError(f"{server.shown} is a file: choose another --out")
            if name.startswith(f"{_RECORDS}/"):
                segments[name] = _modified(entry)
                continue
            codes.append(hash(name))
            times.append(_modified(entry))
            sizes.append(int(entry.get("size") or 0))
        order = np.argsort(np.asarray(codes, np.int64), kind="stable")
        kept: list[np.ndarray[Any, Any]] = [np.asarray(one)[order] for one in (codes, times, sizes)]
        return cls(kept[0].astype(np.int64), kept[1], kept[2], segments, {})

    def place(self, file: Path) -> int | None:
        """Where it stands in the arrays; `None` where it is not there."""
        code = hash(file.as_posix())
        place = int(self.codes.searchsorted(code))
        return place if place < len(self.codes) and self.codes[place] == code else None

    def size(self, file: Path) -> int:
        """In bytes, of what is there."""
        place = self.place(file)
        assert place is not None
        return int(self.sizes[place])

    def line(self, mask: Path) -> bytes | None:
        """Its record."""
        return self.lines.get(hash(mask.as_posix()))

    def remember(self, mask: str, size: int, line: bytes, time: float) -> None:
        """Take a record that was written at a time, if it is of the mask that is there."""
        place = self.place(Path(mask))
        if place is not None and self.times[place] < time and self.sizes[place] == size:
            self.lines[hash(mask)] = line
        elif place is not None:
            self.lines.pop(hash(mask), None)


def _line(record: Record, *, mask: str, size: int, file: str) -> bytes:
    return json.dumps({"mask": mask, "size": size, "file": file, **record.to_json()}).encode()


def _lines(content: bytes | None) -> Iterator[tuple[str, int, bytes]]:
    """Masks with their sizes and the lines of a file of records; lines that are none are left."""
    for line in (content or b"").splitlines():
        try:
            value = json.loads(line)
            Record.parse(line)
            yield str(value["mask"]), int(value["size"]), line
        except (ValueError, KeyError, TypeError, RecursionError):
            continue


def _images(
    lines: Iterable[tuple[str, int, bytes]], *, without: set[str]
) -> Iterator[PredictedImage]:
    for mask, _, line in lines:
        file = "" if mask in without else str(json.loads(line).get("file", ""))
        record = Record.parse(line)
        image = PredictedImage.from_figures(file, mask, record.figures, key=record.key)
        if file and image is not None:
            yield image


def _modified(entry: Mapping[str, Any]) -> float:
    """When an object was written, in seconds; NaN where that is not told."""
    for value in map(entry.get, _MODIFIED):
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return float("nan")
