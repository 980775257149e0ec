"""Counts of single images, kept for the next survey: what did not change is not decoded again.

One SQLite file, which any number of processes read and write: each block of images is one
transaction, so that a killed process leaves whole counts or none. What is there holds numbers and
text only. Whatever is wrong with the file, the images are counted as if there were none.
"""

import hashlib
import json
import logging
import sqlite3
import struct
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from truemask.analysis.survey_counts import TABLES, Counts, Tally
from truemask.analysis.survey_traits import shares_in_cells
from truemask.channels import ChannelSums
from truemask.files import default_cache_folder

BUDGET = 2 << 30
"""Bytes of counts that are kept; those that were used least recently go first."""

NAME = "survey.sqlite"

_TABLES = tuple(name for name in TABLES if name not in ("shares", "changes"))
"""What is kept; the others follow from the heatmaps of an image."""

_WAIT = 10.0
"""Seconds to wait for another writer, before the images are counted without the cache."""

_DAY = 86_400


class CountsCache:
    """Counts by key; can be pickled, each process opens the file itself.

    Args:
        folder: where the file is; None for `default_cache_folder()`.
        budget: bytes of counts that are kept.
    """

    def __init__(self, folder: Path | None = None, *, budget: int = BUDGET) -> None:
        self.path = (default_cache_folder() if folder is None else folder) / NAME
        self.budget = budget
        self._broken = False

    def find(
        self, keys: Sequence[bytes | None], *, classes: int, channels: int
    ) -> dict[bytes, Counts]:
        """The counts that are known, each whole."""
        wanted = [key for key in keys if key is not None]
        if self._broken or not wanted or not self.path.is_file():
            return {}
        found = {}
        try:
            with closing(self._open()) as store:
                places = ",".join("?" * len(wanted))
                rows = store.execute(
                    f"SELECT key, used, value FROM counts WHERE key IN ({places})", wanted
                ).fetchall()
                now = int(time.time())
                old = [(now, key) for key, used, _ in rows if now - used > _DAY]
                if old:
                    with store:
                        store.executemany("UPDATE counts SET used = ? WHERE key = ?", old)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            return {}
        for key, _, value in rows:
            counts = unpack(value, key=key, classes=classes, channels=channels)
            if counts is not None:
                found[key] = counts
        return found

    def keep(self, some: Mapping[bytes, Counts]) -> None:
        """Keep counts, all or none of them."""
        if self._broken or not some:
            return
        now = int(time.time())
        rows = [(key, now, pack(counts, key=key)) for key, counts in some.items()]
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(self._open()) as store, store:
                store.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def trim(self) -> None:
        """Remove what was used least recently, down to nine tenths of the budget."""
        if self._broken or not self.path.is_file():
            return
        try:
            with closing(self._open()) as store:
                (size,) = store.execute("SELECT total(length(value)) FROM counts").fetchone()
                if size <= self.budget:
                    return
                rows = store.execute(
                    "SELECT key, length(value) FROM counts ORDER BY used, key"
                ).fetchall()
                left = size
                gone: list[tuple[bytes]] = []
                while left > 0.9 * self.budget:
                    key, length = rows[len(gone)]
                    left -= length
                    gone.append((key,))
                with store:
                    store.executemany("DELETE FROM counts WHERE key = ?", gone)
                store.execute("VACUUM")
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _open(self) -> sqlite3.Connection:
        store = sqlite3.connect(self.path, timeout=_WAIT)
        try:
            store.execute("PRAGMA synchronous = NORMAL")
            store.execute(
                "CREATE TABLE IF NOT EXISTS counts (key BLOB PRIMARY KEY, used INTEGER, value BLOB)"
            )
        except sqlite3.DatabaseError as error:
            store.close()
            if isinstance(error, sqlite3.OperationalError):  # locked, read-only, a full disk
                raise
            # No database, or a damaged one: what it held can be counted again.
            with suppress(OSError):
                self.path.unlink()
            raise
        return store

    def _give_up(self, error: Exception) -> None:
        self._broken = True
        logging.getLogger(__name__).info("No counts are kept in %s: %s", self.path, error)


def key_of(fingerprint: bytes | None, *, name: str) -> bytes | None:
    """The key of an image's counts; None where nothing tells whether its files changed.

    Args:
        fingerprint: of the sample, which changes with its files, classes and settings.
        name: of the sample.
    """
    if fingerprint is None:
        return None
    described = repr((_code(), fingerprint, name))
    return hashlib.blake2b(described.encode(), digest_size=16).digest()


@cache
def _code() -> str:
    """What reads and counts: this package's code as it is, and the libraries it calls."""
    package = Path(__file__).parents[1]
    files = [package / name for name in ("images.py", "labels.py", "regions.py", "channels.py")]
    files += [Path(__file__)]
    files += [package / "analysis" / f"survey_{name}.py" for name in ("counts", "traits")]
    for folder in ("data", "datasets"):
        files += sorted((package / folder).glob("*.py"))
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(hashlib.blake2b(file.read_bytes()).digest())
    return f"{digest.hexdigest()} {PIL.__version__} {np.__version__}"


def pack(counts: Counts, *, key: bytes) -> bytes:
    """The counts of one image as bytes, a twentieth of their size, with a checksum."""
    vector = np.concatenate([getattr(counts, name).reshape(-1) for name in _TABLES])
    places = np.flatnonzero(vector)
    gaps = np.diff(places, prepend=0).astype("<u4")
    header = {
        "tally": counts.tally.pixels.tolist(),
        "channels": [counts.channels.pixels, counts.channels.sums, counts.channels.squares],
        "sizes": [[*size, images] for size, images in counts.sizes.items()],
        "modes": dict(counts.modes),
        "colours": [list(colour) for colour in counts.colours],
        "lacking": [[place, mark.hex(), name] for place, some in enumerate(counts.lacking)
                    for mark, name in some],
        "places": len(places),
    }  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    body = text + gaps.tobytes() + vector[places].astype("<i8").tobytes()
    return struct.pack("<II", zlib.crc32(body, zlib.crc32(key)), len(text)) + zlib.compress(body, 1)


def unpack(value: bytes, *, key: bytes, classes: int, channels: int) -> Counts | None:
    """The inverse of `pack`; None where the bytes are damaged or of another form."""
    try:
        checksum, length = struct.unpack_from("<II", value)
        body = zlib.decompress(value[8:])
        if zlib.crc32(body, zlib.crc32(key)) != checksum:
            return None
        header: dict[str, Any] = json.loads(body[:length])
        count = header["places"]
        gaps = np.frombuffer(body, "<u4", count, offset=length)
        numbers = np.frombuffer(body, "<i8", count, offset=length + gaps.nbytes)
        pixels = np.array(header["tally"], np.int64)
        if len(pixels) != classes + 1 or len(header["channels"][1]) != channels:
            return None
    except (struct.error, zlib.error, ValueError, KeyError, TypeError):
        return None
    counts = Counts.empty(classes, channels)
    vector = np.zeros(sum(getattr(counts, name).size for name in _TABLES), np.int64)
    vector[np.cumsum(gaps, dtype=np.int64)] = numbers
    start = 0
    for name in _TABLES:
        table = getattr(counts, name)
        table[...] = vector[start : start + table.size].reshape(table.shape)
        start += table.size
    counts.tally = Tally.of(pixels)
    total, sums, squares = header["channels"]
    counts.channels = ChannelSums(total, tuple(sums), tuple(squares))
    counts.sizes = Counter({(h, w): n for h, w, n in header["sizes"]})
    counts.modes = Counter(header["modes"])
    counts.colours = Counter(tuple(colour) for colour in header["colours"])
    counts.shares, counts.changes = shares_in_cells(counts.heat)
    for place, mark, name in header["lacking"]:
        counts.lacking[place].append((bytes.fromhex(mark), name))
    return counts
