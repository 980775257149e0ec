"""The label map: the only place for class names, colours, raw values and the ignored id."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from truemask.errors import UsageError, counted

IGNORE_INDEX = 255
"""The id of pixels that neither train nor count."""

Color = tuple[int, int, int]

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), which colour-blind readers can tell
# apart.
_PALETTE: tuple[Color, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167),
    (86, 180, 233), (213, 94, 0), (240, 228, 66), (148, 103, 189),
)  # fmt: skip
_BACKGROUND: Color = (20, 20, 20)


def default_colors(names: Sequence[str]) -> tuple[Color, ...]:
    """Distinct colours for classes that declare none; a class named "background" is near black."""
    colors: list[Color] = []
    used = 0
    for name in names:
        if name.lower() in ("background", "bg") and _BACKGROUND not in colors:
            colors.append(_BACKGROUND)
            continue
        if used < len(_PALETTE):
            colors.append(_PALETTE[used])
        else:
            hue = (used * 0.61803398875) % 1.0
            shade = colorsys.hsv_to_rgb(hue, 0.5 + 0.4 * (used % 2), 0.65 + 0.3 * (used % 3) / 2)
            colors.append((round(shade[0] * 255), round(shade[1] * 255), round(shade[2] * 255)))
        used += 1
    return tuple(colors)


def pack_rgb(rgb: UInt8[np.ndarray, "*S 3"]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Colours as integers 0xRRGGBB, which is how a label map of colours names its raw values."""
    channels = rgb.astype(np.int64)
    packed: np.ndarray[Any, np.dtype[np.int64]] = (
        (channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]
    )
    return packed


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """Classes of a dataset, and how its mask files name them.

    A task of two classes is binary: the model has one logit channel, whose sigmoid is the
    probability of class 1. Only `num_logits`, `decode`, `probabilities` and the losses know that.

    Attributes:
        names: one a class; a class's position is its id.
        colors: one RGB colour a class, 0 to 255.
        values: raw value in a mask file -> class id or `ignore_index`. A value that is not listed
            is an error.
        encoding: what a raw value is: "ids" (grey level or palette index, up to 16 bits) or
            "colors" (0xRRGGBB).
        ignore_index: id of pixels that neither train nor count.
        ignore_name: what the dataset calls such pixels.
        ignore_color: the RGB colour they are drawn in.
    """

    names: tuple[str, ...]
    values: Mapping[int, int]
    colors: tuple[Color, ...] = ()
    encoding: Literal["ids", "colors"] = "ids"
    ignore_index: int = IGNORE_INDEX
    ignore_name: str = "ignored"
    ignore_color: Color = (224, 224, 224)

    def __post_init__(self) -> None:
        # Lists become tuples, so that equal maps are equal, and the values are a copy of one's own.
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "values", dict(self.values))
        colors = tuple(_color(color) for color in self.colors) or default_colors(self.names)
        object.__setattr__(self, "colors", colors)
        object.__setattr__(self, "ignore_color", _color(self.ignore_color))
        if self.encoding not in ("ids", "colors"):
            raise UsageError(f"encoding is {self.encoding!r}; allowed are ids and colors")
        if not 2 <= len(self.names) <= 255:
            raise UsageError(f"a label map needs 2 to 255 classes, got {len(self.names)}")
        for name in (*self.names, self.ignore_name):
            if not name.isprintable() or not name.strip():
                raise UsageError(
                    f"{name!r} is no name for a class: use characters that can be seen"
                )
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise UsageError(f"two classes are called {twice!r}: give each its own name")
        if len(self.colors) != len(self.names):
            raise UsageError(f"{len(self.names)} classes but {len(self.colors)} colours")
        if 0 <= self.ignore_index < len(self.names) or not 0 <= self.ignore_index <= 255:
            raise UsageError(
                f"ignore_index {self.ignore_index} must be an id from {len(self.names)} to 255, "
                "so that it is no class"
            )
        allowed = {*range(len(self.names)), self.ignore_index}
        limit = 1 << 16 if self.encoding == "ids" else 1 << 24
        for raw, target in self.values.items():
            if target not in allowed:
                raise UsageError(f"raw value {raw} maps to {target}, which is no class id")
            if not 0 <= raw < limit:
                raise UsageError(f"raw value {raw} is outside 0 to {limit - 1}")

    @property
    def num_classes(self) -> int:
        """How many classes there are, the ignored id not among them."""
        return len(self.names)

    @property
    def num_logits(self) -> int:
        """Channels of a model for these classes: one for two classes, else one a class."""
        return 1 if self.num_classes == 2 else self.num_classes

    @cached_property
    def _sorted_values(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        raws = np.array(sorted(self.values), dtype=np.int64)
        return raws, np.array([self.values[int(raw)] for raw in raws], dtype=np.uint8)

    @cached_property
    def _table(self) -> np.ndarray[Any, np.dtype[np.int16]]:
        table = np.full(1 << 16, -1, dtype=np.int16)
        raws, ids = self._sorted_values
        table[raws] = ids
        return table

    @cached_property
    def _translation(self) -> tuple[bytes, int | None]:
        """The id of each raw value of 8 bits, and the id of those of no class, if there are any."""
        used = {*range(self.num_classes), self.ignore_index}
        free = next((one for one in range(255, -1, -1) if one not in used), None)
        ids = [self.values.get(raw) for raw in range(256)]
        if None not in ids:
            free = None
        elif free is None:  # 255 classes and the ignored id take all 256
            return bytes(256), 0
        return bytes(free if one is None else one for one in ids), free  # type: ignore[misc]

    def legend(self) -> str:
        """Which id is which class, and its value in the dataset's masks where that is another."""
        raws: dict[int, list[int]] = {}
        for raw in sorted(self.values):
            raws.setdefault(self.values[raw], []).append(raw)

        def entry(index: int, name: str) -> str:
            before = raws.get(index, [index])
            same = self.encoding == "ids" and index in before
            shown = ", ".join(self._show(raw) for raw in before[:3])
            return f"{index} = {name}" if same else f"{index} = {name} ({shown} in its masks)"

        return ", ".join(entry(index, name) for index, name in enumerate(self.names))

    def encode(self, raw: np.ndarray[Any, Any]) -> UInt8[np.ndarray, "H W"]:
        """Class ids of a mask as it was read from its file.

        Args:
            raw: (H, W) integers for encoding "ids"; (H, W, 3) uint8 for "colors".

        Raises:
            UsageError: a value stands in no class (names the value, the pixels it has, what is
                allowed).
        """
        self._check_raw(raw)
        if self.encoding == "ids":
            if raw.dtype == np.uint8:
                table, unknown_id = self._translation
                # Twice as fast as a table of NumPy.
                bytes_ = bytearray(raw).translate(table)
                if unknown_id is None or unknown_id not in bytes_:
                    return np.frombuffer(bytes_, np.uint8).reshape(raw.shape)
            ids = self._table[raw.astype(np.uint16, casting="unsafe")]
            unknown = (ids < 0) | (raw > 0xFFFF) | (raw < 0)
        else:
            packed = pack_rgb(raw)
            raws, targets = self._sorted_values
            # One more place, for the colours above all that are known; no packed colour is -1.
            place = np.searchsorted(raws, packed)
            ids = np.append(targets, np.uint8(0))[place]
            unknown = np.append(raws, -1)[place] != packed
        if unknown.any():
            values, counts = np.unique(pack_rgb(raw) if raw.ndim == 3 else raw, return_counts=True)
            strange = [
                (int(v), int(n))
                for v, n in zip(values, counts, strict=True)
                if v not in self.values
            ]
            shown = ", ".join(f"{self._show(v)} ({counted(n, 'pixel')})" for v, n in strange[:5])
            shown += " and others" if len(strange) > 5 else ""
            raise UsageError(
                f"{shown} stand{'s' if len(strange) == 1 else ''} in no class; the classes are "
                f"{', '.join(self._show(v) for v in sorted(self.values)[:24])}"
                f"{', ...' if len(self.values) > 24 else ''}"
            )
        encoded: UInt8[np.ndarray, "H W"] = ids.astype(np.uint8)
        return encoded

    def _check_raw(self, raw: np.ndarray[Any, Any]) -> None:
        if self.encoding == "ids":
            fits = raw.ndim == 2 and raw.dtype.kind in "uib"
        else:
            fits = raw.ndim == 3 and raw.shape[2] == 3 and raw.dtype == np.uint8
        if not fits:
            wanted = "(H, W) integer ids" if self.encoding == "ids" else "(H, W, 3) uint8 colours"
            raise UsageError(
                f"the mask is {raw.dtype} of shape {raw.shape}, but masks of this dataset hold "
                f"{wanted}"
            )

    def _show(self, raw: int) -> str:
        return f"value {raw}" if self.encoding == "ids" else f"colour #{raw:06x}"

    def decode(self, logits: Float[Tensor, "B L H W"]) -> UInt8[Tensor, "B H W"]:
        """The most probable class id of each pixel (the lower id on a tie)."""
        if logits.shape[1] == 1:
            return (logits[:, 0] > 0).to(torch.uint8)
        # The same as argmax, which takes over ten times as long along this axis on the CPU.
        return logits.max(1).indices.to(torch.uint8)

    def probabilities(self, logits: Float[Tensor, "B L H W"]) -> Float[Tensor, "B K H W"]:
        """The probability of each class, also for a binary task; sums to 1 over K."""
        if logits.shape[1] == 1:
            foreground = logits.sigmoid()
            return torch.cat((1 - foreground, foreground), 1)
        return logits.softmax(1)

    @cached_property
    def palette(self) -> UInt8[np.ndarray, "256 3"]:
        """The colour of every id, for drawing and for palette PNGs."""
        table = np.zeros((256, 3), dtype=np.uint8)
        table[: self.num_classes] = self.colors
        table[self.ignore_index] = self.ignore_color
        return table

    def colorize(self, ids: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
        """The RGB picture of a mask of class ids."""
        picture: UInt8[np.ndarray, "H W 3"] = self.palette[ids]
        return picture

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` takes back."""
        by_class: dict[int, list[int]] = {}
        for raw in sorted(self.values):
            by_class.setdefault(self.values[raw], []).append(raw)
        return {
            "encoding": self.encoding,
            "classes": [
                {"id": i, "name": name, "color": list(color), "values": by_class.get(i, [])}
                for i, (name, color) in enumerate(zip(self.names, self.colors, strict=True))
            ],
            "ignore": {
                "id": self.ignore_index,
                "name": self.ignore_name,
                "color": list(self.ignore_color),
                "values": by_class.get(self.ignore_index, []),
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "LabelMap":
        """The inverse of `to_json`.

        Raises:
            UsageError: a key is missing or of the wrong type.
        """
        try:
            ignore = value["ignore"]
            values: dict[int, int] = {}
            for i, item in (*enumerate(value["classes"]), (index(ignore["id"]), ignore)):
                if item["id"] != i:
                    raise UsageError(
                        f"the class {item['name']!r} has the id {item['id']} in place {i}: list "
                        "the classes in the order of their ids, from 0 on"
                    )
                for raw in map(index, item["values"]):
                    if values.setdefault(raw, i) != i:
                        raise UsageError(f"raw value {raw} stands in two classes")
            return cls(
                names=tuple(str(item["name"]) for item in value["classes"]),
                colors=tuple(_color(item["color"]) for item in value["classes"]),
                values=values,
                encoding=value["encoding"],
                ignore_index=index(ignore["id"]),
                ignore_name=str(ignore["name"]),
                ignore_color=_color(ignore["color"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"not a label map: {error!r}") from error


def _color(value: Sequence[int]) -> Color:
    parts = [index(part) for part in value]
    if len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
        raise UsageError(f"the colour {list(value)} must be three integers from 0 to 255")
    return parts[0], parts[1], parts[2]
