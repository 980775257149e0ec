"""Archives of published datasets: fetched, checked, unpacked, and only then said to be there.

What is on disk is told by a manifest, `NAME.json` beside the data, which is written last. Until
then a download lies in `NAME.part`, from which the next try goes on, and what is being unpacked in
a folder of its own; both can be left at any moment.
"""

import filecmp
import gzip
import hashlib
import http.client
import os
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import progress as bars
from rich.console import Console
from torchvision.datasets.utils import extract_archive

from truemask.datasets.layout import some
from truemask.errors import JobFailed, UsageError
from truemask.files import explain_os_errors, make_folder, read_json, write_json

Progress = Callable[[str, int, int | None], None]
"""Called with (what is done, how many bytes of it, of how many or None)."""

PAUSE_S = 2.0
"""Seconds before a second try; before each further one as many more."""

_TRIES = 4
_TIMEOUT_S = 30.0
_CHUNK = 1 << 16


class _Broken(Exception):
    """A connection failed in a way that may be over in a moment."""


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


def fetch(archive: Archive, folder: Path, *, progress: Progress | None = None) -> None:
    """Bring the content of an archive into a folder, unless its manifest says that it is there.

    An archive that was put into the folder by hand is taken, and kept; one that was fetched is
    removed when it has been unpacked. Of two processes that fetch into one folder one waits.

    Args:
        archive: what to fetch.
        folder: where its content goes; made if it is missing.
        progress: called while it is fetched and unpacked.

    Raises:
        JobFailed: it cannot be fetched, or is not what it should be; says how to do it by hand.
        UsageError: it cannot be written, or something else lies in its place.
    """
    make_folder(folder)
    with _alone(folder):
        manifest = folder / f"{archive.name}.json"
        if _is_there(manifest, archive):
            return
        path = folder / archive.name
        by_hand = path.is_file()
        if by_hand:
            _check_by_hand(path, archive)
        else:
            _download(archive, path, progress)
        size = path.stat().st_size
        if progress is not None:
            progress(f"Unpacking {archive.name}", 0, None)
        files = _unpack(path, folder)
        write_json(
            manifest,
            {
                "url": archive.url,
                "md5": archive.md5,
                "bytes": size,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "files": files,
            },
        )
        _Part(path.with_name(f"{path.name}.part"), archive).discard()
        if not by_hand:
            path.unlink()


@contextmanager
def terminal_progress() -> Iterator[Progress | None]:
    """Bars on standard error, if that is a terminal; else None."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as shown:
        tasks: dict[str, bars.TaskID] = {}

        def show(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done, total=total)

        yield show


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process fetches into the folder; the lock ends with the process."""
    if sys.platform == "win32":  # Has no such lock.
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # Some network file systems have no locks.
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_there(manifest: Path, archive: Archive) -> bool:
    """Whether the manifest is that of this archive, and the data was not removed since."""
    if not manifest.is_file():
        return False
    known = read_json(manifest)
    return (
        isinstance(known, dict)
        and known.get("md5") == archive.md5
        and any((manifest.parent / name).exists() for name in known.get("files", ()))
    )


def _check_by_hand(path: Path, archive: Archive) -> None:
    found = _md5(path)
    if found != archive.md5:
        raise UsageError(
            f"{path} is not the archive {archive.url}: its md5 is {found}, not {archive.md5}; "
            "fetch it again, or remove it"
        )


def _download(archive: Archive, path: Path, progress: Progress | None) -> None:
    """Fetch into `path`, going on where an earlier try ended; `path` appears when all is right."""
    part = _Part(path.with_name(f"{path.name}.part"), archive)
    while True:
        resumed = part.size() > 0
        _receive_all(part, path, progress)
        found = _md5(part.path)
        if found == archive.md5:
            break
        part.discard()
        # The beginning may be that of an earlier file, and the server may not have told so.
        if not resumed:
            cause = f"what it gives is damaged, or another file (md5 {found}, not {archive.md5})"
            raise JobFailed(_by_hand(archive, path, cause))
    with explain_os_errors(path):
        part.path.replace(path)


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


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _unpack(path: Path, folder: Path) -> list[str]:
    """Put the content of an archive into a folder; gives the paths of its files.

    Raises:
        UsageError: another file of such a name is there; nothing was moved.
    """
    inside = folder / f".{path.name}.unpacking"
    with explain_os_errors(folder):
        shutil.rmtree(inside, ignore_errors=True)
        try:
            _extract(path, inside)
            files = sorted(p.relative_to(inside).as_posix() for p in inside.rglob("*") if _is(p))
            clashes = [folder / name for name in files if _differ(inside / name, folder / name)]
            if clashes:
                raise UsageError(
                    f"{len(clashes)} files of {path} differ from those that are there "
                    f"({some(clashes)}): move these away"
                )
            _move(inside, folder)
        finally:
            shutil.rmtree(inside, ignore_errors=True)
    return files


def _extract(path: Path, inside: Path) -> None:
    inside.mkdir()
    try:
        # Members that would land outside of the folder are an error.
        extract_archive(path, inside)
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise JobFailed(f"{path} cannot be unpacked: {error}; remove it, and try again") from error


def _is(path: Path) -> bool:
    return path.is_symlink() or not path.is_dir()


def _differ(new: Path, old: Path) -> bool:
    if not old.exists():
        return False
    return old.is_dir() or not filecmp.cmp(new, old, shallow=False)


def _move(new: Path, old: Path) -> None:
    """Folders that are missing appear at once, with all that is in them."""
    if not _is(new) and old.is_dir():
        for child in sorted(new.iterdir()):
            _move(child, old / child.name)
    elif not old.exists():
        new.rename(old)
