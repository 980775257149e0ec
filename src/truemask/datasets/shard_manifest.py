"""What a set of shards holds. All but the pixels is known from its manifest.

manifest.json       written last: without it the set is not whole
train-00000.tar     plain tar; of each sample its image file as it was, then a PNG of class ids
train-00001.tar
validation-00000.tar
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import index
from typing import Any, NamedTuple

from truemask.datasets.splitting import PARTS
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.labels import LabelMap

MANIFEST = "manifest.json"

_FORMAT = "truemask shards 1"
_NAME = re.compile(rf"({'|'.join(PARTS)})-\d{{5,9}}\.tar")


class Member(NamedTuple):
    """An encoded file in a shard.

    Attributes:
        offset: where it begins, in bytes.
        size: how long it is, in bytes.
        crc: its CRC-32.
    """

    offset: int
    size: int
    crc: int


class Entry(NamedTuple):
    """A sample in a shard.

    Attributes:
        name: unique in the set.
        height: of the image, in pixels, as it is to be looked at.
        width: likewise.
        image: the image file.
        mask: the PNG of class ids; it may have another size than the image.
        attributes: what else is known of the image.
    """

    name: str
    height: int
    width: int
    image: Member
    mask: Member
    attributes: Mapping[str, str]

    def to_json(self) -> list[Any]:
        """A row of plain values that `from_json` takes back."""
        return [
            self.name, self.height, self.width, *self.image, *self.mask, dict(self.attributes),
        ]  # fmt: skip

    @classmethod
    def from_json(cls, row: list[Any]) -> "Entry":
        """The inverse of `to_json`; raises TypeError or ValueError."""
        name, *numbers, attributes = row
        if type(name) is not str or any(type(number) is not int for number in numbers):
            raise TypeError(f"{row!r} is no sample")
        if any(type(text) is not str for pair in attributes.items() for text in pair):
            raise TypeError(f"the attributes of {name!r} are no texts")
        height, width, *places = numbers
        if min(height, width) < 1 or min(places) < 0:
            raise ValueError(f"{name!r} has a number that is out of range")
        return cls(name, height, width, Member(*places[:3]), Member(*places[3:]), attributes)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A tar file of samples of one part.

    Attributes:
        name: of the file.
        size: in bytes.
        sha256: checksum, in hexadecimal digits.
        pixels: of each class in its masks, brought to the sizes of their images; of ignored ones
            last.
        entries: its samples, in the order of the dataset.
    """

    name: str
    size: int
    sha256: str
    pixels: tuple[int, ...]
    entries: tuple[Entry, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` takes back."""
        return {
            "name": self.name,
            "bytes": self.size,
            "sha256": self.sha256,
            "pixels": list(self.pixels),
            "samples": [entry.to_json() for entry in self.entries],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Shard":
        """The inverse of `to_json`; raises KeyError, TypeError or ValueError."""
        shard = cls(
            name=value["name"],
            size=index(value["bytes"]),
            sha256=value["sha256"],
            pixels=tuple(map(index, value["pixels"])),
            entries=tuple(map(Entry.from_json, value["samples"])),
        )
        # Both become names of files.
        if not _NAME.fullmatch(shard.name) or not re.fullmatch("[0-9a-f]{64}", shard.sha256):
            raise ValueError(f"{shard.name!r} is no name of a shard, or it has no checksum")
        for entry in shard.entries:
            if max(m.offset + m.size for m in (entry.image, entry.mask)) > shard.size:
                raise ValueError(f"{entry.name!r} lies behind the end of {shard.name}")
        return shard


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A whole set of shards.

    Attributes:
        labels: the label map of the data that was sharded; the masks in the shards hold its ids.
        images: what the pixels of the images mean.
        parts: part -> its shards; concatenated, their samples are the part in its order.
        notes: what was said of the data when it was opened.
        division: those of the notes that say how the parts came about.
        source: fingerprint of the data and of the size of shards that was asked for.
    """

    labels: LabelMap
    images: ImageSpec
    parts: Mapping[str, tuple[Shard, ...]]
    notes: tuple[str, ...]
    division: tuple[str, ...]
    source: str

    def shards(self) -> Iterator[Shard]:
        """Those of all parts."""
        for part in self.parts.values():
            yield from part

    def encode(self) -> bytes:
        """The file's content, one line a shard."""
        head = {
            "format": _FORMAT,
            "source": self.source,
            "labels": self.labels.to_json(),
            "images": self.images.to_json(),
            "notes": list(self.notes),
            "division": list(self.division),
        }
        parts = []
        for part, shards in self.parts.items():
            rows = ",\n".join(dump(shard.to_json()) for shard in shards)
            parts.append(f'"{part}": [\n{rows}\n]')
        text = ",\n".join(parts)
        return f'{dump(head)[:-1]}, "parts": {{\n{text}\n}}}}\n'.encode()

    @classmethod
    def decode(cls, content: bytes, *, source: str) -> "Manifest":
        """The inverse of `encode`.

        Args:
            content: of the file.
            source: where it lies, for messages.

        Raises:
            UsageError: it is no manifest, or one of a later format.
        """
        try:
            value = json.loads(content)
            if value["format"] != _FORMAT:
                raise ValueError(f"its format is {value['format']!r}, not {_FORMAT!r}")
            manifest = cls(
                labels=LabelMap.from_json(value["labels"]),
                images=ImageSpec.from_json(value["images"]),
                parts={
                    part: tuple(map(Shard.from_json, value["parts"][part]))
                    for part in PARTS
                    if value["parts"].get(part)
                },
                notes=tuple(map(str, value["notes"])),
                division=tuple(map(str, value["division"])),
                source=str(value["source"]),
            )
            _check(manifest)
            return manifest
        # Brackets in brackets without end are a RecursionError.
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{source} is not a manifest of shards ({error}): give a folder that `truemask "
                "shard` wrote, or write it again"
            ) from error


def _check(manifest: Manifest) -> None:
    """Hold the parts against each other; raises ValueError."""
    if not manifest.parts:
        raise ValueError("it has no samples")
    names = [shard.name for shard in manifest.shards()]
    if len(set(names)) < len(names):
        raise ValueError("a shard stands in it twice")
    for part, shards in manifest.parts.items():
        found = [entry.name for shard in shards for entry in shard.entries]
        if not found or len(set(found)) < len(found):
            raise ValueError(f"its part {part} is empty, or names a sample twice")
    if any(len(shard.pixels) != manifest.labels.num_classes + 1 for shard in manifest.shards()):
        raise ValueError("a shard counts other classes than there are")


def dump(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
