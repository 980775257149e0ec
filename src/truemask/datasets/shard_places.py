"""Where shards lie: a folder on a disk, or one on a server."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from truemask.datasets.shard_server import Server
from truemask.errors import UsageError
from truemask.files import atomic_path, explain_os_errors, make_folder

if sys.platform != "win32":
    import fcntl


class Place(Protocol):
    """Files of one folder, by name."""

    @property
    def root(self) -> Path | str:
        """The folder."""

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""

    def size(self, name: str) -> int | None:
        """Bytes of a file, or None where there is none."""

    def adding(self, name: str) -> Any:
        """A context that gives a path to write to, which becomes the file when it ends well."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""

    def names(self) -> list[str]:
        """The names of the files that are there, hidden ones left out."""

    def alone(self) -> Any:
        """A context in which no other process of this machine writes here."""


def is_remote(root: Path | str) -> bool:
    """Whether it is a URL."""
    return "://" in str(root)


def place_of(root: Path | str) -> Place:
    """The folder or server that a path or URL names.

    Raises:
        UsageError: the URL is of a kind that is not read.
    """
    return Server(str(root)) if is_remote(root) else Folder(Path(root))


def writable_place(root: Path | str) -> Place:
    """As `place_of`, to write there.

    Raises:
        UsageError: the URL is of a kind that cannot be written.
    """
    place = place_of(str(root).removeprefix("file://"))
    if isinstance(place, Server) and place.root.startswith("http"):
        raise UsageError(
            f"{place.shown} cannot be written: give a folder, and copy it to the server, or the "
            "URL of a bucket"
        )
    return place


@dataclass(frozen=True)
class Folder:
    """A folder on a disk.

    Attributes:
        root: its path.
    """

    root: Path

    def read(self, name: str) -> bytes | None:
        """See `Place`."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UsageError(f"cannot read {self.root / name}: {error.strerror}") from error

    def write(self, name: str, content: bytes) -> None:
        """See `Place`."""
        with self.adding(name) as path, explain_os_errors(self.root / name):
            path.write_bytes(content)

    def size(self, name: str) -> int | None:
        """See `Place`."""
        path = self.root / name
        return path.stat().st_size if path.is_file() else None

    @contextmanager
    def adding(self, name: str) -> Iterator[Path]:
        """See `Place`."""
        make_folder(self.root)
        # What a killed process left of this very file.
        for left in self.root.glob(f".{name[:32]}.*.part"):
            left.unlink(missing_ok=True)
        with atomic_path(self.root / name) as path:
            yield path

    def remove(self, name: str) -> None:
        """See `Place`."""
        (self.root / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """See `Place`."""
        with explain_os_errors(self.root):
            found = os.listdir(self.root) if self.root.exists() else []
        return sorted(name for name in found if not name.startswith("."))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """See `Place`.

        Raises:
            UsageError: another process writes here.
        """
        descriptor = os.open(make_folder(self.root), os.O_RDONLY)
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        if sys.platform == "win32":  # has no such lock
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another process writes to {self.root}: wait for it") from error
        except OSError:  # Some network file systems have no locks.
            return
