"""Writing files so that a crash, a full disk or a second writer never leaves half of one."""

import errno
import itertools
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from truemask.errors import UsageError

_CAUSES = {
    errno.ENOSPC: "the disk is full: free some space, or choose another folder",
    errno.EDQUOT: "your disk quota is used up: free some space, or choose another folder",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission denied: choose a folder you may write to",
    errno.EPERM: "permission denied: choose a folder you may write to",
    errno.ENOENT: "its folder does not exist: make it first, or choose another folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder: choose another folder",
    errno.EISDIR: "a folder of that name is in the way: choose another name",
    errno.EEXIST: "a file of that name is in the way: choose another folder",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
}


@contextmanager
def explain_os_errors(path: Path | str) -> Iterator[None]:
    """Turn the operating system's refusals to write into a `UsageError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _CAUSES:
            raise UsageError(f"cannot write {path}: {_CAUSES[error.errno]}") from error
        raise


def make_folder(path: Path) -> Path:
    """Create a folder and its parents where they are missing.

    Raises:
        UsageError: it cannot be created, or a file stands there.
    """
    with explain_os_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def make_dated_folder(parent: Path, *, prefix: str = "") -> Path:
    """Make a new folder named by the time, which no other process can get.

    Raises:
        UsageError: it cannot be created.
    """
    make_folder(parent)
    name = prefix + datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    others = (f"{name}-{number}" for number in itertools.count(2))
    with explain_os_errors(parent):
        for path in map(parent.joinpath, itertools.chain([name], others)):
            with suppress(FileExistsError):
                path.mkdir()  # the system makes it for one process only
                return path
    raise AssertionError("the count never ends")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path` in one step.

    The data is on disk before the name is, so that after a crash `path` holds all of the old
    content or all of the new. On an error the temporary file is removed and `path` stays as it was.
    """
    with explain_os_errors(path):
        # Not by `tempfile`, whose files are private: this one follows the user's umask. Of a long
        # name the beginning will do, as a name must not exceed 255 bytes.
        temporary = path.parent / f".{path.name[:32]}.{secrets.token_hex(4)}.part"
        try:
            temporary.touch(exist_ok=False)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_partial(files: Iterable[Path]) -> None:
    """Remove what killed processes left beside files that nobody is writing any more."""
    left: dict[Path, dict[str, list[Path]]] = {}
    for file in files:
        if file.parent not in left:
            known = left[file.parent] = {}
            for part in file.parent.glob(".*.part"):
                # "." before the name; ".", eight digits and ".part" after it: see `atomic_path`.
                known.setdefault(part.name[1:-14], []).append(part)
        for part in left[file.parent].get(file.name[:32], []):
            part.unlink(missing_ok=True)


def default_cache_folder() -> Path:
    """Where what can be made anew is kept: `$TRUEMASK_CACHE`, or below the user's cache (XDG)."""
    if own := os.environ.get("TRUEMASK_CACHE"):
        return Path(own)
    user = os.environ.get("XDG_CACHE_HOME")
    return (Path(user) if user else Path.home() / ".cache") / "truemask"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; of file names that are none, the bytes as escapes."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; NaN and infinity are refused, as JSON has no word for them."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def require_replaceable(
    result: Path, page: Path, *, maker: str, ours: Callable[[Mapping[str, Any]], bool]
) -> None:
    """Hold the files that a command would write against what lies there.

    Args:
        result: its JSON.
        page: its page, which is taken for its own where the result is.
        maker: what the command makes, such as "audit".
        ours: tells whether an object read from `result` was made by this command.

    Raises:
        UsageError: a file of that name is there that the command did not make.
    """
    in_the_way = page if page.exists() and not result.exists() else None
    if result.exists():
        try:
            found = read_json(result)
        except UsageError:
            found = None
        if not isinstance(found, Mapping) or not ours(found):
            in_the_way = result
    if in_the_way is not None:
        raise UsageError(
            f"{in_the_way} is in the way, and no {maker} made it: choose another folder by --out"
        )


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UsageError: it is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    # Brackets in brackets without end are a RecursionError.
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from error
