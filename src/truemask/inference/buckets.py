"""Images in buckets, and on whatever else fsspec reaches by a URL: listed here, fetched one by one.

Only names and versions are kept of what a bucket holds. Whoever predicts an image fetches it then,
into a folder that is removed afterwards. A version is the object's size with its checksum (ETag) or
its time of change, so that an image counts as changed when these do.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

from truemask.datasets.decoding import SUFFIXES
from truemask.datasets.shard_server import PROTOCOLS, Server
from truemask.errors import UsageError

_STATES = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "updated", "mtime", "created")
"""Where the libraries of fsspec keep what changes with an object, the surest first."""

_TIFFS = (".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Stored:
    """An object on a server.

    Attributes:
        root: the URL of the folder that was given.
        name: its path below that.
        version: a digest that tells it from an object that replaces it.
    """

    root: str
    name: str
    version: bytes

    @property
    def url(self) -> str:
        """Its URL, without a password."""
        return f"{Server(self.root).shown.rstrip('/')}/{self.name}"

    def inside(self, url: str) -> bool:
        """Whether it lies in a folder of a bucket; empty is none."""
        return bool(url) and f"{self.root.rstrip('/')}/{self.name}".startswith(url + "/")

    @property
    def folder(self) -> str:
        """The name of the folder, or of the bucket, that was given."""
        return self.root.rstrip("/").rpartition("/")[2]

    @property
    def may_be_raster(self) -> bool:
        """Whether only its content tells if its mask will be a TIFF."""
        return self.name.lower().endswith(_TIFFS)

    def stem(self, level: int) -> str:
        """Names for its mask, without ending, from the shortest to the most distinct.

        Six, as `targets` has them: without and with the folder; with the ending; with digits that
        are a digest of the name and of the URL.
        """
        name = self.name if level >= 2 else self.name.rpartition(".")[0]
        if "//" in name:  # which a bucket may hold
            name = "/".join(filter(None, name.split("/")))
        if level >= 4:
            known = self.url if level % 2 else self.name
            digest = blake2b(known.encode("utf-8", "surrogatepass"), digest_size=4)
            name = f"{name}.{digest.hexdigest()}"
        return f"{self.folder}/{name}" if level % 2 else name


def is_bucket(text: Path | str) -> bool:
    """Whether an input is a bucket's URL; those of web pages are images (`urls.py`)."""
    return "://" in str(text) and not str(text).lower().startswith(("http://", "https://"))


def find_stored(url: str) -> Iterator[Stored]:
    """The images in a folder of a bucket and below it, in the order of their names; or one image.

    Hidden files and folders are left out.

    Args:
        url: such as `s3://bucket/photos/`.

    Raises:
        UsageError: it is of a kind that is not read, its library is not installed, there is no such
            bucket or folder, or no right to list it.
        JobFailed: the server cannot be reached.
    """
    require_known(url, "images are read from")
    server = Server(url.rstrip("/"))
    found = False
    for name, entry in server.walk():
        found = True
        if not name:  # the URL is that of an object
            root, _, name = server.root.rpartition("/")
        else:
            root = server.root
        # Names come from a server: none may lead out of the folder of the masks. No paths are made
        # of them, as their parts would be kept in a table of Python's.
        if name.startswith("/") or "\\" in name or any(p.startswith(".") for p in name.split("/")):
            continue
        _, dot, ending = name.rpartition(".")
        if dot and f".{ending.lower()}" in SUFFIXES:
            yield Stored(root, name, _version(entry))
    if not found:
        raise UsageError(
            f"there is nothing at {server.shown}: check the names of bucket and folder"
        )


@contextmanager
def fetched(stored: Stored) -> Iterator[Path]:
    """A copy on the disk, for as long as it is needed.

    Raises:
        UsageError: it is no longer there, or cannot be read.
        JobFailed: the server cannot be reached.
    """
    server = Server(stored.root)
    with tempfile.TemporaryDirectory(prefix="truemask-image-") as folder:
        path = Path(folder, PurePosixPath(stored.name).name)
        if not server.fetch(stored.name, path):
            raise UsageError(f"{stored.url} is no longer there")
        if path.suffix.lower() in _TIFFS:
            world = PurePosixPath(stored.name).with_suffix(".tfw")
            if not server.fetch(str(world), path.with_suffix(".tfw")):
                path.with_suffix(".tfw").unlink(missing_ok=True)
        yield path


def require_known(url: str, use: str) -> None:
    """Refuse URLs of other kinds than buckets.

    Raises:
        UsageError: it is of another; `use` says what it was given for.
    """
    protocol = url.partition("://")[0]
    known = [name for name in PROTOCOLS if not name.startswith("http")]
    if protocol not in known or "::" in url:
        kinds = ", ".join(f"{name}://" for name in known)
        raise UsageError(f"{protocol}:// is no kind of URL that {use}: {kinds}")


def _version(entry: Mapping[str, Any]) -> bytes:
    state = next((entry[name] for name in _STATES if entry.get(name) is not None), "")
    return blake2b(f"{entry.get('size')} {state}".encode(), digest_size=15).digest()
