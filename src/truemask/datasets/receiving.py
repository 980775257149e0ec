"""Receiving an archive: on from where an earlier try ended, until its checksum is right.

What has come lies in `NAME.part`, and beside it, in `NAME.part.json`, what the server said of the
whole file, so that another process can go on.
"""

import hashlib
import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truemask.errors import JobFailed, UsageError
from truemask.files import explain_os_errors, read_json, write_json

Progress = Callable[[str, int, int | None], None]
"""Called with (what is done, how many bytes of it, of how many or None)."""

PAUSE_S = 2.0
"""Seconds before a second try; before each further one as many more."""

_TRIES = 4
_TIMEOUT_S = 30.0
_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file to fetch, whose content is known.

    Attributes:
        url: where it is.
        md5: its checksum, in hexadecimal digits.
    """

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The file's name, whose ending says how it is packed (".tar", ".tar.gz", ".zip")."""
        return self.url.rpartition("/")[2]


class _Broken(Exception):
    """A connection failed in a way that may be over in a moment."""


def receive(archive: Archive, path: Path, progress: Progress | None) -> None:
    """Fetch an archive into `path`, which appears when all is there and right.

    Args:
        archive: what to fetch.
        path: a file in a folder that exists.
        progress: called while it is fetched.

    Raises:
        JobFailed: it cannot be fetched, or is not what it should be; says how to do it by hand.
        UsageError: it cannot be written, or the disk is too small.
    """
    part = _part_of(archive, path)
    while True:
        resumed = part.size() > 0
        _receive_all(part, path, progress)
        found = md5_of(part.path)
        if found == archive.md5:
            break
        part.discard()
        # The beginning may be that of an earlier file, and the server may not have told so.
        if not resumed:
            cause = f"what it gives is damaged, or another file (md5 {found}, not {archive.md5})"
            raise JobFailed(_by_hand(archive, path, cause))
    with explain_os_errors(path):
        part.path.replace(path)


def discard_part(archive: Archive, path: Path) -> None:
    """Remove what earlier tries to receive an archive into `path` left beside it."""
    _part_of(archive, path).discard()


def md5_of(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _part_of(archive: Archive, path: Path) -> "_Part":
    return _Part(path.with_name(f"{path.name}.part"), archive)


def _by_hand(archive: Archive, path: Path, cause: str) -> str:
    return (
        f"cannot fetch {archive.url}: {cause}; try again later, or fetch it by hand, put it at "
        f"{path}, and run the same command"
    )


def _receive_all(part: "_Part", path: Path, progress: Progress | None) -> None:
    """Try until all is there; give up after a few tries that brought nothing."""
    failures, most = 0, part.size()
    while True:
        try:
            _receive(part, progress)
            return
        except _Broken as error:
            failures = failures + 1 if part.size() <= most else 1
            most = max(most, part.size())
            if failures >= _TRIES:
                raise JobFailed(_by_hand(part.archive, path, str(error))) from error
            time.sleep(PAUSE_S * failures)
        except urllib.error.HTTPError as error:
            cause = f"the server answers {error.code} {error.reason}"
            raise JobFailed(_by_hand(part.archive, path, cause)) from error


def _receive(part: "_Part", progress: Progress | None) -> None:
    """One request, for what is missing."""
    if part.is_whole():
        return
    with _connection(), part.request() as response:
        with explain_os_errors(part.path):
            start = part.begin(response)
        done, total = start, part.total()
        with part.path.open("ab") as file:
            while chunk := response.read(_CHUNK):
                with explain_os_errors(part.path):
                    file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(f"Fetching {part.archive.name}", done, total)
            with explain_os_errors(part.path):
                file.flush()
    if total is not None and done < total:
        raise _Broken(f"the connection ended after {done:,} of {total:,} bytes")


@contextmanager
def _connection() -> Iterator[None]:
    """Tell failures that may be over in a moment from answers that will stay."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (408, 416, 429) or error.code >= 500:
            raise _Broken(f"the server answers {error.code} {error.reason}") from error
        raise
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or str(error.reason)
        raise _Broken(f"there is no connection ({reason})") from error
    except TimeoutError as error:
        raise _Broken(f"the server says nothing for {_TIMEOUT_S:g} seconds") from error
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(f"the connection broke ({error})") from error


@dataclass(frozen=True)
class _Part:
    """The beginning of a file, and beside it what the server said of the whole.

    Attributes:
        path: where it lies.
        archive: what it will be.
    """

    path: Path
    archive: Archive

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def size(self) -> int:
        """Bytes that are there, and can be used."""
        return self.path.stat().st_size if self._known() and self.path.exists() else 0

    def total(self) -> int | None:
        """Bytes of the whole file, if the server said."""
        total = self._known().get("bytes")
        return total if isinstance(total, int) else None

    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.total() is not None and self.size() == self.total()

    def discard(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def request(self) -> Any:
        """Ask for the rest of the file, on the condition that it is still the same."""
        headers = {"User-Agent": "truemask", "Accept-Encoding": "identity"}
        if self.size() > 0:
            headers["Range"] = f"bytes={self.size()}-"
            if self._known().get("version"):
                headers["If-Range"] = self._known()["version"]
        request = urllib.request.Request(self.archive.url, headers=headers)
        try:
            return urllib.request.urlopen(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # The file is shorter than what is here: another one.
                self.discard()
            raise

    def begin(self, response: Any) -> int:
        """Make ready to append what comes, and say at which byte it begins."""
        if response.status == 206:
            self._refuse_other(response.headers)
            return self.size()
        self.discard()
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
        _refuse_little_space(self.path.parent, total, self.archive)
        known = {"url": self.archive.url, "md5": self.archive.md5, "bytes": total}
        write_json(self._note, known | {"version": _version(response.headers)})
        self.path.touch()
        return 0

    def _known(self) -> dict[str, Any]:
        if not self._note.is_file():
            return {}
        known = read_json(self._note)
        same = isinstance(known, dict) and known.get("md5") == self.archive.md5
        return known if same and known.get("url") == self.archive.url else {}

    def _refuse_other(self, headers: Any) -> None:
        """A server that does not know conditions gives the rest of whatever file it has now."""
        place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        fits = place is not None and int(place[1]) == self.size()
        if place is not None and place[2] != "*":
            fits = fits and self.total() in (None, int(place[2]))
        if not fits or (_version(headers) or "") not in ("", self._known().get("version")):
            self.discard()
            raise _Broken("the file on the server has changed since the first part was fetched")


def _version(headers: Any) -> str | None:
    """What tells two versions of a file apart, sharply enough for If-Range (RFC 9110, 13.1.5)."""
    tag: str | None = headers.get("ETag")
    changed: str | None = headers.get("Last-Modified")
    return tag if tag and not tag.startswith("W/") else changed


def _refuse_little_space(folder: Path, total: int | None, archive: Archive) -> None:
    free = shutil.disk_usage(folder).free
    # The archive and its content lie side by side for a while.
    if total is not None and free < 2 * total:
        raise UsageError(
            f"{folder} has {free / 1e9:.1f} GB free, but {archive.name} needs "
            f"{2 * total / 1e9:.1f} to be unpacked: free some space, or choose another folder"
        )
