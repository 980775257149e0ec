"""What published datasets have in common: lists of names, and folders that must look just so.

Their users have mostly unpacked an archive into the wrong place, or not all of it. So each message
says where the data comes from, what the folder must look like, and which files are missing.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from truemask.datasets.layout import some
from truemask.datasets.pairing import Pair
from truemask.errors import UsageError

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


def read_list(path: Path) -> list[str]:
    """The first word of each line, in the order of the file.

    Empty lines and lines that begin with "#" are skipped.

    Raises:
        UsageError: the file is missing, unreadable or no text, names nothing, or a name twice.
    """
    names = [words[0] for words in read_words(path)]
    twice = repeated(names)
    if twice:
        raise UsageError(
            f"{path} lists {some(twice)} more than once: remove the repeated lines, as an image "
            "would count twice"
        )
    return names


def read_words(path: Path) -> list[list[str]]:
    """The words of each line that is neither empty nor a comment.

    Raises:
        UsageError: the file is missing, unreadable, no text, or holds no such line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(
            f"{path} is missing: extract the archive that holds it into this place"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text file: extract its archive again") from error
    lines = [line.split() for line in text.splitlines()]
    words = [line for line in lines if line and not line[0].startswith("#")]
    if not words:
        raise UsageError(f"{path} lists no images: extract its archive again")
    return words


def repeated(names: Sequence[str]) -> list[str]:
    """The names that stand more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def require_folder(path: Path, *, dataset: str, source: str, layout: str) -> Path:
    """`path`, if it is a folder.

    Args:
        path: a folder that must be there, below the one that the user gave.
        dataset: the name of the dataset, for messages.
        source: where to get it: the official address, with a word on registration or licence.
        layout: what the user's folder must look like, in one line.

    Raises:
        UsageError: there is no such folder; says what is missing, the layout and the source.
    """
    if path.is_dir():
        return path
    way_out = f"it must look like {layout}; get the data from {source}"
    if path.exists():
        raise UsageError(f"{path} is a file, not a folder of {dataset}: {way_out}")
    if path.parent.is_dir():
        packed = [path.with_name(path.name + ending) for ending in _ARCHIVES]
        found = next((archive for archive in packed if archive.is_file()), None)
        if found is not None:
            raise UsageError(f"{found} is still packed: extract it, so that {path} is there")
        raise UsageError(f"{path.parent} is no {dataset} folder: no {path.name} in it; {way_out}")
    missing = next((p for p in (path, *path.parents) if p.parent.is_dir()), path)
    raise UsageError(f"{missing} does not exist, so {dataset} is not there: {way_out}")


def find_home(
    root: Path, homes: Sequence[str], inside: str, *, dataset: str, source: str, layout: str
) -> Path:
    """The first of `root / home` that has a folder `inside`, for archives unpacked in many ways.

    Args:
        root: the folder that the user gave.
        homes: paths below it to look at, "" for the folder itself.
        inside: a folder that tells the right one.
        dataset: as `require_folder`.
        source: as `require_folder`.
        layout: as `require_folder`.

    Raises:
        UsageError: none has it; says what is missing, the layout and the source.
    """
    for home in homes:
        if (root / home / inside).is_dir():
            return root / home
    way_out = f"it must look like {layout}; get the data from {source}"
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise UsageError(f"{root} {what}, so {dataset} is not there: {way_out}")
    tried = " or ".join((Path(home) / inside).as_posix() for home in homes)
    raise UsageError(f"{root} is no {dataset} folder: no {tried} in it; {way_out}")


def pairs_of(
    names: Sequence[str],
    *,
    part: str | None,
    image: Callable[[str], Path],
    mask: Callable[[str], Path],
    attributes: Callable[[str], Mapping[str, str]] | None = None,
    source: str,
) -> list[Pair]:
    """The image and the mask of each name, sorted by name.

    Args:
        names: the names of the samples.
        part: "train", "validation", "test", or None.
        image: name -> the path of its image.
        mask: name -> the path of its mask.
        attributes: name -> what else is known of it; None for nothing.
        source: what named them, for messages: the path of a list or a folder.

    Raises:
        UsageError: a file is missing (names the first few, and says how many).
    """
    pairs = [
        Pair(part, name, image(name), mask(name), {} if attributes is None else attributes(name))
        for name in sorted(names)
    ]
    lost = [path for pair in pairs for path in (pair.image, pair.mask) if not path.is_file()]
    if lost:
        raise UsageError(
            f"{source} names {len(pairs)} images with masks, of which {len(lost)} files are "
            f"missing ({some(lost)}): extract the whole archive again"
        )
    return pairs
