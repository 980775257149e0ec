"""Where the bytes of shards are read: in place, or in a folder that keeps those of a server.

The folder is shared by all processes and runs, and bounded in bytes:

    CHECKSUM.tar            a shard, whole and right; the least recently used make room for others
    CHECKSUM.BYTES.part     one that is being fetched, which counts with the bytes it will have
    CHECKSUM.lock           held by the process that does so; others that need the shard wait for it
    lock                    held for moments, to give out room and to rename a whole shard

Locks end with the process that holds them.
"""

import hashlib
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from truemask.datasets.shard_manifest import Shard
from truemask.datasets.shard_server import Server
from truemask.errors import JobFailed, UsageError
from truemask.files import explain_os_errors, make_folder

if sys.platform != "win32":
    import fcntl

_PAUSE_S = 0.05

# Nothing else in the folder is ours to remove.
_SHARD = re.compile(r"[0-9a-f]{64}\.tar")
_PART = re.compile(r"([0-9a-f]{64})\.(\d+)\.part")


class Store(Protocol):
    """What the bytes of shards are read from."""

    def open(self, shard: Shard) -> BinaryIO:
        """A shard's bytes."""

    def title(self, shard: Shard) -> str:
        """Where a shard lies, for messages."""

    def mend(self, shard: Shard) -> bool:
        """Whether a shard that was found damaged can be had anew."""

    def prefetch(self, shard: Shard) -> None:
        """Fetch a shard in the background."""


class LocalShards:
    """Shards of a folder, read where they lie.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, shard: Shard) -> BinaryIO:
        """A shard's bytes.

        Raises:
            UsageError: it is missing, unreadable or of another size than it should be.
        """
        path = self.root / shard.name
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise UsageError(
                f"{path} is missing: copy the whole set of shards, or write it again"
            ) from None
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        size = os.fstat(file.fileno()).st_size
        if size != shard.size:
            file.close()
            raise UsageError(
                f"{path} has {size:,} bytes instead of {shard.size:,}: copy it again, or remove it "
                "and write the set again"
            )
        return file

    def title(self, shard: Shard) -> str:
        """Where a shard lies, for messages."""
        return str(self.root / shard.name)

    def mend(self, shard: Shard) -> bool:
        """Whether a damaged shard can be had anew: no."""
        return False

    def prefetch(self, shard: Shard) -> None:
        """Nothing: the shard is here."""


class CachedShards:
    """Shards of a server, fetched whole into a folder when they are needed.

    Args:
        server: where they come from.
        folder: where they are kept.
        limit: bytes that the folder may hold; the largest shard must fit.
    """

    def __init__(self, server: Server, *, folder: Path, limit: int) -> None:
        self.server = server
        self.folder = folder
        self.limit = limit
        self._wanted: queue.SimpleQueue[Shard] | None = None
        self._asked: set[str] = set()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_wanted": None}

    def title(self, shard: Shard) -> str:
        """Where a shard lies, for messages."""
        return f"{self.server.shown.rstrip('/')}/{shard.name}"

    def open(self, shard: Shard) -> BinaryIO:
        """A shard's bytes, fetched if they are not here.

        What was opened can be read even when the file is removed meanwhile.

        Raises:
            JobFailed: the server cannot be reached.
            UsageError: the shard is missing or damaged there, or the folder cannot be written.
        """
        while True:
            found = self._open(shard) or self._fetch(shard)
            if found is not None:
                return found

    def mend(self, shard: Shard) -> bool:
        """Whether a damaged shard can be had anew: yes; this copy of it is removed."""
        self._path(shard).unlink(missing_ok=True)
        return True

    def prefetch(self, shard: Shard) -> None:
        """Fetch a shard in the background, if it is not here; a failure is left to `open`."""
        if self._wanted is None or self._process != os.getpid():
            # A thread does not live on in a process that was forked.
            self._wanted, self._asked, self._process = queue.SimpleQueue(), set(), os.getpid()
            threading.Thread(target=self._fetch_wanted, args=(self._wanted,), daemon=True).start()
        if shard.name not in self._asked and not self._path(shard).exists():
            self._asked.add(shard.name)
            self._wanted.put(shard)

    def _fetch_wanted(self, wanted: "queue.SimpleQueue[Shard]") -> None:
        while True:
            shard = wanted.get()
            with suppress(JobFailed, UsageError, OSError):
                self.open(shard).close()
            self._asked.discard(shard.name)

    def _path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.sha256}.tar"

    def _open(self, shard: Shard) -> BinaryIO | None:
        try:
            file = self._path(shard).open("rb")
        except FileNotFoundError:
            return None
        with suppress(OSError):  # Somebody else's file; it can be read.
            os.utime(file.fileno())
        return file

    def _fetch(self, shard: Shard) -> BinaryIO | None:
        """The shard, or None where another process has fetched it meanwhile."""
        make_folder(self.folder)
        lock = self.folder / f"{shard.sha256}.lock"
        part = self.folder / f"{shard.sha256}.{shard.size}.part"
        with explain_os_errors(part), _locked(lock) as mine:
            if not mine or self._path(shard).exists():
                return None
            try:
                self._claim(part, shard.size)
                self._receive(shard, part)
                file = part.open("rb")
                # Whoever makes room meanwhile would see neither name.
                with _locked(self.folder / "lock"):
                    part.replace(self._path(shard))
                return file
            finally:
                part.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)

    def _receive(self, shard: Shard, part: Path) -> None:
        title = self.title(shard)
        if not self.server.fetch(shard.name, part):
            raise UsageError(f"{title} is missing: copy the whole set there, or write it again")
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != shard.sha256:
            raise UsageError(
                f"{title} is damaged or another file (sha256 {found}, not {shard.sha256}): copy it "
                "there again, or write it again"
            )

    def _claim(self, part: Path, size: int) -> None:
        """Make the file `part` when there is room for it, for which others are removed."""
        while True:
            with _locked(self.folder / "lock"):
                if self._make_room(size):
                    part.touch()
                    return
            # All room is of shards that others are fetching.
            time.sleep(_PAUSE_S)

    def _make_room(self, size: int) -> bool:
        """Remove what was not used for longest; whether there is room then."""
        taken, files = size, []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                if _SHARD.fullmatch(path.name):
                    found = path.stat()
                    files.append((found.st_mtime_ns, path, found.st_size))
                    taken += found.st_size
                elif (being := _PART.fullmatch(path.name)) and not _abandoned(path, being[1]):
                    taken += int(being[2])
        for _, path, freed in sorted(files):
            if taken <= self.limit:
                break
            path.unlink(missing_ok=True)
            taken -= freed
        return taken <= self.limit


def _abandoned(part: Path, checksum: str) -> bool:
    """Whether the process that fetched it has ended; what it left is removed."""
    with suppress(FileNotFoundError):
        descriptor = os.open(part.with_name(f"{checksum}.lock"), os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
    part.unlink(missing_ok=True)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Wait for the lock of a file, which is made if it is missing; false where it is gone then."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield _is_still(descriptor, path)
    finally:
        # A process that was forked meanwhile has the descriptor too: closing ours would not do.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
