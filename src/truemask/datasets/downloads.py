"""Archives of published datasets: fetched, checked, unpacked, and only then said to be there.

What is on disk is told by a manifest, `NAME.json` beside the data, which is written last. Until
then a download lies in `NAME.part` (see `receiving.py`), and what is being unpacked in a folder of
its own; both can be left at any moment.
"""

import filecmp
import gzip
import os
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from rich import progress as bars
from rich.console import Console
from torchvision.datasets.utils import extract_archive

from truemask.datasets.layout import some
from truemask.datasets.receiving import Archive, Progress, discard_part, md5_of, receive
from truemask.errors import JobFailed, UsageError
from truemask.files import explain_os_errors, make_folder, read_json, write_json


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
            receive(archive, path, progress)
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
        discard_part(archive, path)
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
    found = md5_of(path)
    if found != archive.md5:
        raise UsageError(
            f"{path} is not the archive {archive.url}: its md5 is {found}, not {archive.md5}; "
            "fetch it again, or remove it"
        )


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
