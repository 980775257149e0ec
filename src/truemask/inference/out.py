"""Where masks go: a folder, or one in a bucket (`out_bucket.py`), alike to who predicts."""

import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from truemask.files import make_folder, remove_partial
from truemask.inference.out_bucket import OutBucket
from truemask.inference.records import Record, read_record
from truemask.inference.settings import Settings
from truemask.inference.summary import PredictedImage, add_to_summary, read_summary
from truemask.inference.target import Target
from truemask.labels import LabelMap


class Out(Protocol):
    """The folder of the masks.

    Attributes:
        folder: what the paths of its files begin with.
        url: of a bucket's folder; empty on a disk.
    """

    @property
    def folder(self) -> Path:
        """See above."""

    @property
    def url(self) -> str:
        """See above."""

    @property
    def shown(self) -> str:
        """What the user called it."""

    def exists(self, file: Path) -> bool:
        """Whether there is a file, whatever it is."""

    def look_at(self, masks: Iterable[Path]) -> None:
        """Get ready to tell the records of masks."""

    def record(self, mask: Path) -> Record | None:
        """What a mask that was written here says of itself; `None` for every other file."""

    def open(self, labels: LabelMap, settings: Settings) -> None:
        """Hold the table that is there against the classes; make the folder.

        Raises:
            UsageError: it is a table of something else, or there is no such place.
        """

    def begin(self, targets: Iterable[Target]) -> None:
        """Get ready for the files of images that are about to be predicted.

        Raises:
            UsageError: nothing can be written there.
        """

    def note(self, found: Sequence[tuple[Target, PredictedImage]]) -> None:
        """Keep on the way what was found of images, so that little is lost where this is killed."""

    def finish(
        self, images: Sequence[PredictedImage], fresh: Sequence[tuple[Target, PredictedImage]]
    ) -> None:
        """Write the table.

        Args:
            images: all of this call, in order; they come after other lines of the table.
            fresh: those among them that were not given to `note` yet.
        """


class OutFolder:
    """One on a disk."""

    url = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._labels: LabelMap | None = None

    @property
    def shown(self) -> str:
        """See `Out`."""
        return str(self.folder)

    def exists(self, file: Path) -> bool:
        """See `Out`."""
        return os.path.lexists(file)

    def look_at(self, masks: Iterable[Path]) -> None:
        """See `Out`: they are on the disk."""

    def record(self, mask: Path) -> Record | None:
        """See `Out`."""
        return read_record(mask)

    def open(self, labels: LabelMap, settings: Settings) -> None:
        """See `Out`."""
        self._labels = labels
        read_summary(self.folder, labels)
        make_folder(self.folder)

    def begin(self, targets: Iterable[Target]) -> None:
        """See `Out`. Removes what a killed process left of files of these images."""
        remove_left(targets)

    def note(self, found: Sequence[tuple[Target, PredictedImage]]) -> None:
        """See `Out`."""
        self.finish([image for _, image in found], found)

    def finish(
        self, images: Sequence[PredictedImage], fresh: Sequence[tuple[Target, PredictedImage]]
    ) -> None:
        """See `Out`."""
        assert self._labels is not None
        if images:
            add_to_summary(self.folder, images, self._labels)


def open_out(out: Path | str) -> Out:
    """The place that a path or URL names; nothing is asked of a server yet.

    Raises:
        UsageError: the URL is of a kind that is not written.
    """
    text = str(out).removeprefix("file://")
    if isinstance(out, str) and "://" in text:
        return OutBucket(text)
    return OutFolder(Path(text))


def remove_left(targets: Iterable[Target]) -> None:
    """Remove what killed processes left of files of images that nobody is predicting now."""

    @cache
    def any_in(folder: Path) -> bool:
        return next(folder.glob(".*.part"), None) is not None

    remove_partial(
        file
        for target in targets
        if not target.bucket and any_in(target.stem.parent)
        for file in target.files
    )
