"""What a model puts out: one tensor, or several in tuples, lists, mappings and objects."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

_MAIN_KEYS = ("out", "logits", "masks", "mask", "pred", "prediction", "predictions")
"""Keys or attributes under which libraries put the main output, beside auxiliary ones."""


@dataclass(frozen=True)
class Output:
    """One tensor of a model's output.

    Attributes:
        place: where it stands: "", '["out"]', ".logits" or "[0]".
        tensor: as it came.
    """

    place: str
    tensor: Shaped[Tensor, "*shape"]

    @property
    def logits(self) -> Shaped[Tensor, "B L H W"]:
        """With the axis of channels, where one channel came without it."""
        return self.tensor[:, None] if self.tensor.ndim == 3 else self.tensor

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"the output{self.place}"


def tensors_in(output: Any, place: str = "") -> Iterator[Output]:
    """All tensors of an output, in order."""
    if isinstance(output, Tensor):
        yield Output(place, output)
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from tensors_in(value, f"{place}[{str(key)!r}]".replace("'", '"'))
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for number, value in enumerate(output):
            yield from tensors_in(value, f"{place}[{number}]")
    elif hasattr(output, "__dict__"):
        for key, value in vars(output).items():
            if isinstance(value, Tensor):
                yield from tensors_in(value, f"{place}.{key}")


def main_output(
    outputs: Sequence[Output], *, batch: int, size: tuple[int, int], channels: Sequence[int]
) -> Output | None:
    """The tensor that is the prediction; None where none can be it.

    Of several the first that fits best: one that has a name of the main output, a right number of
    channels, the size of the masks, and is the largest.

    Args:
        outputs: of `tensors_in`.
        batch: how many samples went in.
        size: of the masks.
        channels: numbers of channels that are right.
    """

    def merit(output: Output) -> tuple[bool, bool, bool, int]:
        shape = output.logits.shape
        named = any(output.place.endswith((f'["{key}"]', f".{key}")) for key in _MAIN_KEYS)
        return shape[1] in channels, named, tuple(shape[2:]) == size, shape[2] * shape[3]

    candidates = [
        output for output in outputs if output.tensor.ndim in (3, 4) and len(output.tensor) == batch
    ]
    return max(candidates, key=merit, default=None)
