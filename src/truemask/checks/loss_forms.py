"""In which shapes a loss takes its prediction and its target, found out by trying."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from truemask.errors import UsageError

Target = Literal["index", "float", "one_hot"]
"""Integer class ids; ids as floats, 0 and 1 of a binary mask; or a channel a class."""

TARGETS: tuple[Target, ...] = ("index", "float", "one_hot")


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to call a loss.

    Attributes:
        channels: L, of the prediction; one channel stands for two classes.
        target: what the target holds.
        target_channel: whether ids are (B, 1, H, W) and not (B, H, W).
        prediction_channel: whether a prediction of one channel is (B, 1, H, W), not (B, H, W).
    """

    channels: int
    target: Target
    target_channel: bool = False
    prediction_channel: bool = True

    @property
    def classes(self) -> int:
        """K: two for one channel."""
        return max(self.channels, 2)

    def prediction(self, scores: Float[Tensor, "B L H W"]) -> Float[Tensor, "B *L H W"]:
        """Scores in the shape that the loss takes."""
        return scores if self.prediction_channel else scores[:, 0]

    def truth(
        self, ids: Int64[Tensor, "B H W"], dtype: torch.dtype, *, blank: float | None = None
    ) -> Shaped[Tensor, "B *K H W"]:
        """Ids as the target that the loss takes.

        Args:
            ids: class ids; other numbers are ignored pixels.
            dtype: of the prediction, which float targets have too.
            blank: what all channels of an ignored pixel hold in a one-hot target; none is its id.
        """
        if self.target != "one_hot":
            truth = ids[:, None] if self.target_channel else ids
            return truth if self.target == "index" else truth.to(dtype)
        classes = torch.arange(self.classes, device=ids.device)[None, :, None, None]
        hot = (ids[:, None] == classes).to(dtype)
        ignored = ((ids < 0) | (ids >= self.classes))[:, None]
        filling = ids[:, None].to(dtype) if blank is None else torch.full_like(hot, blank)
        return torch.where(ignored, filling, hot)

    def __str__(self) -> str:
        channels = f"{self.channels}, " if self.prediction_channel else ""
        kind = {"index": "integer ids", "float": "float ids", "one_hot": "one-hot channels"}
        inside = f"{self.channels}, " if self.target == "one_hot" else "1, " * self.target_channel
        return (
            f"a (B, {channels}H, W) prediction and a (B, {inside}H, W) target of "
            f"{kind[self.target]}"
        )


def forms(num_classes: int, target: Target) -> list[list[Form]]:
    """Ways to try, in groups: those of the declared target first, the most usual of each first.

    Raises:
        UsageError: there is no such target, or no class.
    """
    if target not in TARGETS:
        raise UsageError(f"target is {target!r}; it must be one of {', '.join(TARGETS)}")
    if num_classes < 1:
        raise UsageError(f"num_classes is {num_classes}; it must be 1 or more")
    kinds = [target, *(other for other in TARGETS if other != target)]
    return [_forms_of(num_classes, kind) for kind in kinds]


def _forms_of(num_classes: int, target: Target) -> list[Form]:
    several = [] if num_classes == 1 else [num_classes]
    hot = [Form(channels=channels, target="one_hot") for channels in several]
    if target == "one_hot":
        return hot or _one_channel("float")
    ids = [
        Form(channels=channels, target=target, target_channel=channel)
        for channels in several
        for channel in (False, True)
    ]
    single = _one_channel(target) if num_classes <= 2 else []
    if target == "index":
        return ids + single
    # The ids of two classes as floats are the mask of one channel; a float mask of more is one-hot.
    return single or hot + ids


def _one_channel(target: Target) -> list[Form]:
    return [
        Form(channels=1, target=target, target_channel=True),
        Form(channels=1, target=target),
        Form(channels=1, target=target, prediction_channel=False),
    ]


def classes_of(form: Form, ignore_index: int | None) -> Sequence[int]:
    """The class ids that count."""
    return [number for number in range(form.classes) if number != ignore_index]
