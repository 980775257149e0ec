"""Shards on a server or in a bucket, which fsspec reaches."""

import errno
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from truemask.errors import JobFailed, UsageError
from truemask.files import explain_os_errors

Result = TypeVar("Result")

PROTOCOLS = ("http", "https", "s3", "gs", "az", "abfs", "abfss", "hf", "file")
"""Those that only move bytes. fsspec knows others, some of which run what a URL says."""

PAUSE_S = 2.0
"""Seconds before a second try; before each further one as many more."""

_TRIES = 4
_SILENCE_S = 30
_GLANCE = 2**16
_EXTRAS = {"s3": "s3"}
_BUSY = (408, 429)


@dataclass(frozen=True)
class Server:
    """A folder on a server, or in a bucket.

    Credentials, end points and the like are what fsspec takes from the environment and from its own
    configuration files.

    Attributes:
        root: its URL.
    """

    root: str

    def __post_init__(self) -> None:
        protocol = self.root.partition("://")[0]
        if protocol not in PROTOCOLS or "::" in self.root:
            raise UsageError(
                f"{self.shown} is not a URL that shards are read from: it may begin with "
                f"{', '.join(f'{name}://' for name in PROTOCOLS)}"
            )

    @property
    def shown(self) -> str:
        """The URL without a password."""
        return re.sub(r"//[^/@]*@", "//", self.root)

    def read(self, name: str) -> bytes | None:
        """See `shard_places.Place`.

        Raises:
            JobFailed: the server cannot be reached.
            UsageError: it denies access.
        """
        return self._ask(name, "read", lambda system, path: bytes(system.cat_file(path)))

    def fetch(self, name: str, path: Path) -> bool:
        """Copy a file to a path on the disk; false where there is none.

        Raises:
            JobFailed: the server cannot be reached.
            UsageError: it denies access, or the disk is full.
        """

        def get(system: Any, url: str) -> bool:
            try:
                system.get_file(url, str(path))
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    with explain_os_errors(path):
                        raise
                raise
            return True

        return bool(self._ask(name, "read", get))

    def write(self, name: str, content: bytes) -> None:
        """See `shard_places.Place`."""
        self._ask(name, "write", lambda system, url: system.pipe_file(url, content))

    def size(self, name: str) -> int | None:
        """See `shard_places.Place`."""
        return self._ask(name, "read", lambda system, url: int(system.info(url)["size"]))

    @contextmanager
    def adding(self, name: str) -> Iterator[Path]:
        """See `shard_places.Place`."""
        with tempfile.TemporaryDirectory(prefix="truemask-shard-") as folder:
            path = Path(folder) / name
            yield path
            self.send(path, name)

    def send(self, path: Path, name: str) -> None:
        """Copy a file from the disk; the object is there as a whole or not at all.

        Raises:
            JobFailed: the server cannot be reached.
            UsageError: it denies access, or there is no such bucket.
        """
        # Buckets have no folders to make, and a mistyped bucket must not be made either.
        self._ask(name, "write", lambda system, url: system.put_file(str(path), url))

    def look(self, name: str, call: Callable[[BinaryIO], Result]) -> Result | None:
        """What a function finds in a file of which it needs little; None where there is none.

        Raises:
            JobFailed: the server cannot be reached.
            UsageError: it denies access.
        """

        def looked(system: Any, url: str) -> Result:
            with system.open(url, "rb", block_size=_GLANCE) as file:
                return call(file)

        return self._ask(name, "read", looked)

    def remove(self, name: str) -> None:
        """See `shard_places.Place`."""
        self._ask(name, "remove", lambda system, url: system.rm_file(url))

    def names(self) -> list[str]:
        """See `shard_places.Place`."""

        def listing(system: Any, url: str) -> list[str]:
            system.invalidate_cache()
            found = system.ls(url, detail=False)
            system.invalidate_cache()  # or what is added later would not be there for it
            return sorted(str(one).rpartition("/")[2] for one in found)

        return self._ask("", "read", listing) or []

    def walk(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All files below, by their path below it, with what the server says of each.

        Folder by folder, each in the order of names; of S3 in pages of a thousand, so that a bucket
        of millions is never in memory. Where the URL is that of a file, that alone, as "".

        Raises:
            JobFailed: the server cannot be reached.
            UsageError: it denies access.
        """
        system, path = self._system(self.root)
        base = path.strip("/")
        if hasattr(system, "call_s3"):
            yield from self._pages(base)
            return
        folders = [""]
        while folders:
            folder = folders.pop()
            inside: list[str] = []
            for entry in self._ask(folder, "list", _listed) or []:
                name = str(entry["name"]).strip("/")
                name = name[len(base) :].strip("/") if name.startswith(base) else name
                if entry.get("type") != "directory":
                    yield name, entry
                elif name != folder:
                    inside.append(name)
            folders.extend(reversed(inside))

    def _pages(self, base: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Objects of S3, whose library would list all of them at once."""
        bucket, _, key = base.partition("/")
        prefix = f"{key}/" if key else ""
        more: dict[str, str] = {}
        found = False
        while True:
            asked = partial(_page, Bucket=bucket, Prefix=prefix, **more)
            page = self._ask("", "list", asked)
            for entry in (page or {}).get("Contents", []):
                found = True
                if not entry["Key"].endswith("/"):  # which is how some draw a folder
                    yield entry["Key"][len(prefix) :], {**entry, "size": entry["Size"]}
            if page is None or not page.get("IsTruncated"):
                break
            more = {"ContinuationToken": page["NextContinuationToken"]}
        if not found and key:
            alone = self._ask("", "read", lambda system, url: dict(system.info(url)))
            if alone is not None and alone.get("type") == "file":
                yield "", alone

    def alone(self) -> Any:
        """See `shard_places.Place`; there are no locks on a server."""
        return nullcontext()

    def _ask(self, name: str, verb: str, call: Callable[[Any, str], Result]) -> Result | None:
        """Try until the server has answered; None where it says that there is no such file."""
        url = f"{self.root.rstrip('/')}/{name}".rstrip("/")
        shown = f"{self.shown.rstrip('/')}/{name}"
        for tried in range(1, _TRIES + 1):
            try:
                return call(*self._system(url))
            except FileNotFoundError as error:
                if verb == "write":
                    raise UsageError(f"cannot write {shown}: there is no such bucket") from error
                return None
            except UsageError:
                raise
            except Exception as error:  # each library has its own
                cause = f"cannot {verb} {shown}: {_first_line(error)}"
                if _final(error):
                    raise UsageError(f"{cause}: check the URL and your rights to it") from error
                if tried == _TRIES:
                    raise JobFailed(f"{cause}; try again later") from error
            time.sleep(PAUSE_S * tried)
        raise AssertionError("the last try returns or raises")

    def _system(self, url: str) -> tuple[Any, str]:
        """The file system, of this process and thread, and its name for a URL."""
        from fsspec.core import url_to_fs

        protocol = url.partition("://")[0]
        try:
            system, path = url_to_fs(url, **_options(protocol))
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            remedy = f"pip install 'truemask[{extra}]'" if extra else _first_line(error)
            raise UsageError(f"{self.shown} needs another library: {remedy}") from error
        return system, str(path)


def _page(system: Any, _: str, **asked: str) -> dict[str, Any]:
    return dict(system.call_s3("list_objects_v2", **asked))


def _listed(system: Any, url: str) -> list[dict[str, Any]]:
    system.invalidate_cache()
    found = system.ls(url, detail=True)
    system.invalidate_cache()
    return sorted(found, key=lambda entry: str(entry["name"]))


def _options(protocol: str) -> dict[str, Any]:
    if protocol not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    # By default a shard that takes five minutes would be given up.
    patience = ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S)
    return {"client_kwargs": {"trust_env": True, "timeout": patience}}


def _final(error: Exception) -> bool:
    """Whether trying again would bring the same answer."""
    if isinstance(error, PermissionError | NotImplementedError):
        return True
    if "Credentials" in type(error).__name__:  # of botocore, which may not be installed
        return True
    status = getattr(error, "status", None)
    return isinstance(status, int) and 400 <= status < 500 and status not in _BUSY


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
