"""How far a model sees: TM509."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.model_alignment import averaging, bright_image, darken
from truemask.checks.model_probe import ModelProbe


@rule("TM509", "small-receptive-field", "note")
def small_receptive_field(
    probe: ModelProbe, structure_size: float | None = None
) -> Iterator[Finding]:
    """The model sees less of the image than the structures that it must tell apart.

    Why it matters:
        A pixel in the middle of a road, of a cell or of a letter is decided by what lies around
        it. If the receptive field ends before the structure does, then only texture and colour are
        left to go by, and the inside of large regions gets holes.

    How it decides:
        In a copy of the network that only averages (see TM502) some single pixels of an image are
        changed one at a time. The receptive field is the largest height or width of what changes
        in the output by a millionth of the most. It is compared with `structure_size`, or
        else with half of the median length of the runs of one class in the rows and columns of
        the example masks: what a pixel in the middle must see to reach a border.

    False alarms:
        Textures that are told apart by their small details alone.

    How to mend:
        More levels, dilated convolutions, or smaller images.
    """
    needed, told = structure_size, "the structures that it must see"
    if needed is None:
        ids = probe.ids
        needed = None if ids is None else 0.5 * median_run(ids, probe.num_classes)
        told = "half of the regions in the masks"
    if not needed or needed < 4 or probe.geometry.kind == "other":
        return
    field = receptive_field(probe, needed)
    if field is None or field >= needed:
        return
    yield small_receptive_field.finding(
        f"The receptive field is {field} pixels wide, but {told} measure {needed:.0f} pixels.",
        remedy="Add levels or dilated convolutions, or train on smaller images.",
        evidence={"receptive_field": field, "needed": round(needed, 1)},
    )


def median_run(ids: Int64[Tensor, "B H W"], num_classes: int) -> float:
    """The median over pixels of the length of the run of one class that they lie in, in pixels.

    Of the runs in the row and in the column, the shorter; ignored pixels do not count.
    """
    lengths = []
    for mask in ids.cpu().numpy():
        shorter = np.minimum(_runs(mask), _runs(mask.T).T)
        lengths.append(shorter[(mask >= 0) & (mask < num_classes)])
    values = np.concatenate(lengths)
    return float(np.median(values)) if values.size else 0.0


def _runs(rows: Int64[np.ndarray, "R C"]) -> Int64[np.ndarray, "R C"]:
    """For each pixel the length of the run of equal values in its row."""
    starts = np.ones(rows.shape, bool)
    starts[:, 1:] = rows[:, 1:] != rows[:, :-1]
    runs = np.cumsum(starts.ravel()) - 1
    lengths: Int64[np.ndarray, "R C"] = np.bincount(runs)[runs].reshape(rows.shape)
    return lengths


def receptive_field(probe: ModelProbe, needed: float) -> int | None:
    """Side of the receptive field in pixels; None where it reaches the border, or nothing answers.

    Args:
        probe: the model.
        needed: what is asked about: the image need not be much larger.
    """
    model = averaging(probe)
    side = 32 * (int(1.5 * needed) // 32 + 1)
    image, logits = bright_image(probe, model, sizes=((side, side),))
    height, width = image.shape[-2:]
    changed = image.repeat(2, 1, 1, 1)
    for number, offset in enumerate((-5, 2)):  # In two phases of grids of any stride.
        darken(probe, changed[number, :, height // 2 + offset, width // 2 + offset])
    with torch.no_grad():
        moved = probe.predict(changed, model=model).double() - logits
    answer = moved.abs().amax(1)
    seen = answer > 1e-6 * answer.amax((1, 2), keepdim=True)
    rows, columns = seen.any(2), seen.any(1)
    if not bool(answer.amax((1, 2)).all()):
        return None
    if bool(rows[:, [0, -1]].any() or columns[:, [0, -1]].any()):
        return None
    return round(max(int(rows.sum(1).max()), int(columns.sum(1).max())) / probe.geometry.ratio)


RULES: tuple[Rule, ...] = (small_receptive_field,)
