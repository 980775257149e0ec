"""A file of decoded samples that any number of processes read and add to at the same time.

    header     what the file is for: magic, key, number of samples
    claim      how far the file may grow
    end        of the space that was given out
    index      32 bytes for each sample; zeros until it is there
    records    pixels of the image, ids of the mask, name and attributes as JSON

Space is given out under the folder's lock, and none of it twice. The entry of a sample is written
after its record, with checksums of both: a process that is killed or a machine that stops leaves
space that nobody reads, and whatever is damaged counts as missing. Nobody has to come back for
anything, as the system ends the locks of a process that ends.

The file is read by `preadv`: like a mapping of it, that copies out of the page cache which all
processes share. Where the file was cut off or the disk fails, a mapping would kill the process.
"""

import errno
import json
import os
import struct
import weakref
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors

from truemask.data.cache_folder import UNFINISHED, claim, locked, make_room
from truemask.datasets.sample import Sample
from truemask.images import ImageSpec

KEEP_FREE = 1 << 30
"""Bytes of the disk that stay free: what a training writes is worth more than its cache."""

_HEADER = struct.Struct("<8s16sQ")
_NUMBER = struct.Struct("<Q")
_FIELDS = "<QIIIII"
_ENTRY = struct.Struct(f"{_FIELDS}I")
"""Offset; channels, height, width; bytes of JSON; checksums of the record and of all these."""

_MAGIC = b"truemask"
_END_AT = 40
_INDEX_AT = 64
_ALIGNMENT = 64
_LARGEST = 1 << 30
"""Bytes of a sample; one call of the system reads and writes up to twice as many."""


class CacheFile:
    """An open file of decoded samples; for the process that opened it only.

    Args:
        path: its folder must be there; the file is made where it is missing or damaged.
        key: 16 bytes that say what the samples are of; a file of another key is replaced.
        count: how many samples there may be.
        spec: of the images.
        limit: bytes that the file may have.
        budget: bytes that all files of the folder may have. For a file that is in use, what it may
            become counts. The least recently used that no process has open are removed.

    Raises:
        OSError: the file can neither be written nor read.
    """

    def __init__(
        self, path: Path, *, key: bytes, count: int, spec: ImageSpec, limit: int, budget: int
    ) -> None:
        self.path = path
        self.count = count
        self.spec = spec
        self.full = False
        self._header = _HEADER.pack(_MAGIC, key, count)
        self._salt = zlib.crc32(self._header)
        self._records_at = _aligned(_INDEX_AT + count * _ENTRY.size)
        self._dtype = np.dtype(spec.dtype)
        # The checksum of the entry whose record was found whole by this process, for each sample.
        self._whole = array("I", bytes(4 * count))
        self._damaged: dict[int, bytes] = {}
        self._descriptor = self._open(limit, budget)
        weakref.finalize(self, os.close, self._descriptor)

    def _open(self, limit: int, budget: int) -> int:
        try:
            with locked(self.path.parent, seconds=10):
                self.limit = make_room(self.path, limit=limit, budget=budget)
                descriptor = self._open_whole(os.O_RDWR)
                if descriptor is None:
                    descriptor = self._create()
                try:
                    claim(descriptor, self.limit)
                except BaseException:
                    os.close(descriptor)
                    raise
                return descriptor
        except OSError:
            self.full, self.limit = True, 0
            descriptor = self._open_whole(os.O_RDONLY)
            if descriptor is None:
                raise
            return descriptor  # Somebody else's, or of a folder that is not ours to write in.

    def _open_whole(self, mode: int) -> int | None:
        """The file's descriptor where it is there, ours and not cut off."""
        try:
            descriptor = os.open(self.path, mode | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        found = os.pread(descriptor, _INDEX_AT, 0)
        if found.startswith(self._header) and len(found) == _INDEX_AT:
            (end,) = _NUMBER.unpack_from(found, _END_AT)
            if self._records_at <= end <= os.fstat(descriptor).st_size:
                return descriptor
        os.close(descriptor)
        return None

    def _create(self) -> int:
        temporary = self.path.with_suffix(UNFINISHED)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            _write(descriptor, self._header, 0)
            _write(descriptor, _NUMBER.pack(self._records_at), _END_AT)
            os.ftruncate(descriptor, self._records_at)
            temporary.replace(self.path)
        except BaseException:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        return descriptor

    def read(self, index: int) -> Sample | None:
        """The sample in memory of its own, or None where it is missing or damaged.

        Raises:
            OSError: the disk fails.
        """
        entry = self._entry(index)
        if entry is None:
            return None
        sample = self._record(index, entry)
        if sample is None:
            self._damaged[index] = entry
        return sample

    def _record(self, index: int, entry: bytes) -> Sample | None:
        offset, channels, height, width, length, checksum, mark = _ENTRY.unpack(entry)
        known = self._whole[index] == mark
        size = channels * height * width * self._dtype.itemsize + height * width + length
        if not known and offset + size > os.fstat(self._descriptor).st_size:
            return None
        image = np.empty((channels, height, width), self._dtype)
        mask = np.empty((height, width), np.uint8)
        text = bytearray(length)
        parts = (image, mask, text)
        if _read_into(self._descriptor, parts, offset) != size:
            return None
        if not known and _checksum(parts) != checksum:
            return None
        self._whole[index] = mark
        name, attributes = json.loads(text)
        return Sample(
            image=tv_tensors.Image(torch.from_numpy(image)),
            mask=tv_tensors.Mask(torch.from_numpy(mask)),
            name=name,
            attributes=attributes,
        )

    def _place(self, index: int) -> int:
        assert 0 <= index < self.count
        return _INDEX_AT + index * _ENTRY.size

    def _entry(self, index: int) -> bytes | None:
        entry = os.pread(self._descriptor, _ENTRY.size, self._place(index))
        return entry if entry == self._seal(index, entry[:-4]) else None

    def _seal(self, index: int, fields: bytes) -> bytes:
        """An entry with its checksum, by which it is valid in this file and place only."""
        return fields + struct.pack("<I", zlib.crc32(fields + struct.pack("<Q", index), self._salt))

    def add(self, index: int, sample: Sample) -> None:
        """Keep a sample, unless somebody has done so, it has another form, or the file is full.

        Raises:
            TimeoutError: others hold the folder's lock; another time it may go.
            OSError: the file cannot be written.
        """
        image, mask = sample.image, sample.mask
        kinds = (image.dtype, mask.dtype) == (self.spec.torch_dtype, torch.uint8)
        if self.full or not kinds or image.ndim != 3 or image.shape[1:] != mask.shape:
            return
        text = json.dumps([sample.name, dict(sample.attributes)]).encode()
        record = image.numpy().tobytes() + mask.numpy().tobytes() + text
        with locked(self.path.parent, seconds=0.5):
            entry = self._entry(index)
            if entry is not None and entry != self._damaged.get(index):
                return
            offset = self._reserve(len(record))
        if offset is None:
            return
        _write(self._descriptor, record, offset)
        fields = struct.pack(_FIELDS, offset, *image.shape, len(text), zlib.crc32(record))
        _write(self._descriptor, self._seal(index, fields), self._place(index))

    def _reserve(self, length: int) -> int | None:
        """The offset of so many bytes that are nobody else's; None where the file is full."""
        end = os.pread(self._descriptor, _NUMBER.size, _END_AT)
        size = os.fstat(self._descriptor).st_size
        if len(end) < _NUMBER.size or size < _NUMBER.unpack(end)[0]:
            # Growing it again would put zeros where other processes found whole records.
            raise OSError(errno.EIO, "the file was cut off")
        offset = _aligned(size)
        if length > _LARGEST or offset + length > self.limit:
            self.full = True
            return None
        disk = os.fstatvfs(self._descriptor)
        if disk.f_bavail * disk.f_frsize < KEEP_FREE + length:
            raise OSError(errno.ENOSPC, "the disk is nearly full")
        os.ftruncate(self._descriptor, offset + length)
        _write(self._descriptor, _NUMBER.pack(offset + length), _END_AT)
        return offset


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _checksum(parts: Sequence[Any]) -> int:
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value


def _read_into(descriptor: int, parts: Sequence[Any], offset: int) -> int:
    """Fill the parts from the file; the bytes that there were."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, parts, offset)
    done = 0
    for part in parts:  # macOS before 11
        view = memoryview(part).cast("B")
        found = os.pread(descriptor, len(view), offset + done)
        view[: len(found)] = found
        done += len(found)
    return done


def _write(descriptor: int, data: bytes, offset: int) -> None:
    if os.pwrite(descriptor, data, offset) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
