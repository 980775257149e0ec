"""Shards that `truemask shard` wrote, as a dataset: `shards("https://host/folder")`.

A sample is the one that its files gave, byte for byte, at the same index. Names, sizes and
attributes come from the manifest; a shard is opened, or fetched, when a sample of it is read.
"""

import hashlib
import io
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Int64
from torchvision import tv_tensors

from truemask.datasets.mask_files import read_mask_raw
from truemask.datasets.paired import Size, nearest
from truemask.datasets.reading import read_image
from truemask.datasets.sample import Parts, Sample
from truemask.datasets.shard_cache import CachedShards, LocalShards, Store
from truemask.datasets.shard_manifest import MANIFEST, Entry, Manifest, Member, Shard
from truemask.datasets.shard_places import is_remote, place_of
from truemask.datasets.shard_server import Server
from truemask.errors import UsageError
from truemask.files import default_cache_folder
from truemask.images import ImageSpec
from truemask.labels import LabelMap

WINDOW = 16
"""Shards that a training draws from at a time."""


def shards(
    root: Path | str,
    *,
    cache: int = 20_000_000_000,
    folder: Path | str | None = None,
    window: int | None = WINDOW,
) -> Parts:
    """Open a set of shards.

    Args:
        root: the folder that holds `manifest.json`, or its URL: http, https, s3, gs and others that
            fsspec knows, with the credentials that it finds. `file://` is for a slow disk.
        cache: bytes that shards of a URL may take in `folder`.
        folder: where these are kept, by all processes and runs; None for `shards/` in
            `$TRUEMASK_CACHE`, or in the user's folder for caches.
        window: shards that a training draws from at a time, so that few are needed at once; where
            a part has no more than these, its order is the usual one. None always takes the usual.

    Returns:
        The parts of the data that was sharded, with its label map and its notes.

    Raises:
        UsageError: there is no whole set, or the cache is too small.
        JobFailed: the server cannot be reached.
    """
    if window is not None and window < 1:
        raise UsageError(f"window {window} must be at least 1, or null")
    manifest = read_manifest(root)
    store = _store(root, manifest, cache=cache, folder=folder, window=window)
    parts = {
        name: ShardDataset.of(
            found, labels=manifest.labels, images=manifest.images, store=store, window=window
        )
        for name, found in manifest.parts.items()
    }
    count = sum(1 for _ in manifest.shards())
    size = sum(shard.size for shard in manifest.shards())
    note = f"The samples are read from {count} shards ({size / 1e9:.2f} GB)."
    return Parts(parts, notes=(*manifest.notes, note), division=manifest.division)


def read_manifest(root: Path | str) -> Manifest:
    """The manifest of a whole set.

    Raises:
        UsageError: there is none, or it cannot be read.
        JobFailed: the server cannot be reached.
    """
    place = place_of(root)
    content = place.read(MANIFEST)
    title = f"{str(place.root).rstrip('/')}/{MANIFEST}"
    if content is None:
        raise UsageError(
            f"{title} is missing: give a folder that `truemask shard` wrote to its end (the same "
            "command goes on where it was interrupted)"
        )
    return Manifest.decode(content, source=title)


def _store(
    root: Path | str,
    manifest: Manifest,
    *,
    cache: int,
    folder: Path | str | None,
    window: int | None,
) -> Store:
    if not is_remote(root):
        return LocalShards(Path(root).absolute())
    if sys.platform == "win32":
        raise UsageError(f"{root}: Windows lacks the locks of the cache: copy the set to a disk")
    sizes = [shard.size for shard in manifest.shards()]
    # One beside the window is read to validate, and one is fetched ahead.
    needed = min(sum(sizes), ((window or 0) + 2) * max(sizes))
    if cache < needed:
        raise UsageError(
            f"cache={cache} holds {cache // max(sizes)} shards of {max(sizes):,} bytes, but a "
            f"training draws from {window or 1} at a time: give at least {needed}, or a smaller "
            "window"
        )
    place = default_cache_folder() if folder is None else Path(folder).expanduser().absolute()
    return CachedShards(Server(str(root)), folder=place / "shards", limit=cache)


@dataclass(frozen=True)
class _File:
    """What the readers of files ask of a path, for bytes that are in memory.

    Attributes:
        content: of the file.
        title: what messages call it.
    """

    content: bytes
    title: str
    suffix: str = ""

    def open(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.content)

    def read_bytes(self) -> bytes:
        return self.content

    def __str__(self) -> str:
        return self.title


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardDataset:
    """One part of a set of shards.

    Attributes:
        shards: its shards, without their entries.
        labels: classes; the raw values are those of the data that was sharded.
        images: what the pixels of the images mean.
        store: where the bytes come from.
        names: of the samples, in order.
        attributes: what else is known of each sample.
        whole_sizes: (N, 2) height and width of each image.
        places: (N, 2, 3) offset, bytes and CRC-32 of each image and mask in its shard.
        groups: the shard of each sample, in ascending order.
        window: shards that a training draws from at a time.
        size: height and width to which samples are brought while they are read, as those of files
            are; None leaves them as they are.
        class_pixels: pixels of each class in all masks.
        ignored_pixels: likewise of ignored pixels.
    """

    shards: tuple[Shard, ...]
    labels: LabelMap
    images: ImageSpec
    store: Store
    names: tuple[str, ...]
    attributes: tuple[Mapping[str, str], ...]
    whole_sizes: Int64[np.ndarray, "N 2"]
    places: Int64[np.ndarray, "N 2 3"]
    groups: tuple[int, ...]
    window: int | None
    size: Size | None = None
    class_pixels: tuple[int, ...]
    ignored_pixels: int

    @classmethod
    def of(
        cls,
        shards: Sequence[Shard],
        *,
        labels: LabelMap,
        images: ImageSpec,
        store: Store,
        window: int | None,
    ) -> "ShardDataset":
        """The samples of these shards, one after the other."""
        entries: list[Entry] = [entry for shard in shards for entry in shard.entries]
        pixels = np.array([shard.pixels for shard in shards]).sum(0).tolist()
        return cls(
            shards=tuple(replace(shard, entries=()) for shard in shards),
            labels=labels,
            images=images,
            store=store,
            names=tuple(entry.name for entry in entries),
            attributes=tuple(entry.attributes for entry in entries),
            whole_sizes=np.array([(entry.height, entry.width) for entry in entries]),
            places=np.array([(entry.image, entry.mask) for entry in entries]),
            groups=tuple(n for n, shard in enumerate(shards) for _ in shard.entries),
            window=window,
            class_pixels=tuple(pixels[:-1]),
            ignored_pixels=pixels[-1],
        )

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Height and width of each sample."""
        if self.size is not None:
            return (self.size,) * len(self)
        return tuple((height, width) for height, width in self.whole_sizes.tolist())

    def resized(self, size: Size) -> "ShardDataset":
        """The same samples at another height and width, read at that size."""
        return replace(self, size=size)

    def prefetch(self, group: int) -> None:
        """Fetch a shard in the background, if it is not here; a failure shows when it is read."""
        self.store.prefetch(self.shards[group])

    def fingerprint(self, index: int) -> bytes:
        """What changes where the sample might; no shard is opened."""
        shard = self.shards[self.groups[index]].sha256
        known = (self.names[index], sorted(self.attributes[index].items()), shard, self.size)
        described = repr((known, self.places[index].tolist(), self._described))
        return hashlib.blake2b(described.encode(), digest_size=16).digest()

    @cached_property
    def _described(self) -> str:
        return repr((self.images, self.labels.to_json()))

    @cached_property
    def _ids(self) -> LabelMap:
        """The label map of the masks in the shards, which hold ids."""
        ids = (*range(self.labels.num_classes), self.labels.ignore_index)
        return replace(self.labels, encoding="ids", values={one: one for one in ids})

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """Read an image and its mask.

        Raises:
            UsageError: the shard is missing, damaged or unreadable; it is named.
            JobFailed: its server cannot be reached.
        """
        image_file, mask_file = self._files(index, (0, 1))
        image = read_image(cast(Path, image_file), self.images, size=self.size)
        return Sample(
            image=image,
            mask=self._mask(mask_file, (image.shape[-2], image.shape[-1])),
            name=self.names[index],
            attributes=self.attributes[index],
        )

    def mask(self, index: int) -> tv_tensors.Mask:
        """The mask alone.

        Raises:
            UsageError: as `__getitem__`.
            JobFailed: likewise.
        """
        (file,) = self._files(index, (1,))
        height, width = self.whole_sizes[index].tolist()
        return self._mask(file, self.size or (height, width))

    def _mask(self, file: _File, size: Size) -> tv_tensors.Mask:
        raw = read_mask_raw(cast(Path, file))
        if (raw.shape[0], raw.shape[1]) != size:
            raw = nearest(raw, size)
        try:
            return tv_tensors.Mask(torch.from_numpy(self._ids.encode(raw)))
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from error

    def _files(self, index: int, which: Sequence[int]) -> list[_File]:
        """The image (0) and the mask (1) of a sample, as they are in its shard."""
        shard = self.shards[self.groups[index]]
        members = [Member(*self.places[index, one].tolist()) for one in which]
        title = f"{self.store.title(shard)} ({self.names[index]})"
        found = _read(self.store, shard, members)
        if found is None and self.store.mend(shard):
            found = _read(self.store, shard, members)
        if found is None:
            raise UsageError(
                f"{title} is damaged: copy the shard again, or remove it and write the set again"
            )
        return [_File(content, title) for content in found]


def _read(store: Store, shard: Shard, members: Sequence[Member]) -> list[bytes] | None:
    """The bytes of files in a shard, or None where they are not what was written."""
    found = []
    with store.open(shard) as file:
        for member in members:
            file.seek(member.offset)
            content = file.read(member.size)
            if len(content) != member.size or zlib.crc32(content) != member.crc:
                return None
            found.append(content)
    return found
