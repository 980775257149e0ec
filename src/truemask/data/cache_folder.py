"""The folder of the cache's files: its lock, its budget, and which of its files are in use.

A process that has a file open holds a shared lock on it; the folder's lock is held for moments, to
open a file, to remove others, and to give out space. Locks end with the process that holds them.
"""

import os
import re
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

SUFFIX = ".samples"
UNFINISHED = ".part"
_NAME = re.compile(rf"[0-9a-f]{{32}}({SUFFIX}|{UNFINISHED})")
"""Nothing else in the folder is ours to remove."""

_CLAIM = struct.Struct("<Q")
_CLAIM_AT = 32
"""Where a file says how far it may grow."""


@contextmanager
def locked(folder: Path, *, seconds: float) -> Iterator[None]:
    """Hold the folder's lock, for a moment; it ends with the process.

    Raises:
        TimeoutError: it was not free for so long.
        OSError: the folder cannot be written, or its file system has no locks.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline, pause = time.monotonic() + seconds, 0.0001
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # Not for ever: the holder may be suspended.
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{folder} is locked by another process") from None
                time.sleep(pause)
                pause = min(2 * pause, 0.02)
        yield
    finally:
        # A process that is forked meanwhile has the descriptor too: closing ours would not do.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def claim(descriptor: int, limit: int) -> None:
    """Mark a file as in use until it is closed, and say how far it may grow.

    Under the folder's lock.
    """
    os.utime(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        limit = max(limit, _claimed(descriptor))
    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.pwrite(descriptor, _CLAIM.pack(limit), _CLAIM_AT)


def _claimed(descriptor: int) -> int:
    found = os.pread(descriptor, _CLAIM.size, _CLAIM_AT)
    return int(_CLAIM.unpack(found)[0]) if len(found) == _CLAIM.size else 0


def make_room(path: Path, *, limit: int, budget: int) -> int:
    """Bytes that the file may have after others were removed for it; under the folder's lock."""
    taken, idle = 0, []
    for other in path.parent.iterdir():
        if not _NAME.fullmatch(other.name) or other == path:
            continue
        if other.suffix == UNFINISHED:
            other.unlink()  # Its writer was killed: it would hold the lock.
        else:
            used, size, at = _use_of(other)
            taken += size
            if not used:
                idle.append((at, other, size))
    for _, other, size in sorted(idle):
        if taken + limit <= budget:
            break
        with suppress(PermissionError):  # Somebody else's, in a folder that several share.
            other.unlink()
            taken -= size
    return max(0, min(limit, budget - taken))


def _use_of(path: Path) -> tuple[bool, int, float]:
    """Whether a process has the file open, the bytes that count for it, and its last use."""
    found = path.stat()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return True, found.st_size, found.st_mtime
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False, found.st_size, found.st_mtime
        except BlockingIOError:
            return True, max(found.st_size, _claimed(descriptor)), found.st_mtime
    finally:
        os.close(descriptor)
