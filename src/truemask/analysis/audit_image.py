"""The evidence against the label of one image, of whatever kind: computed once, held small."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from truemask.analysis.audit_borders import Step, Translation, best_translation, border_steps
from truemask.analysis.audit_calibration import Calibration, class_logits
from truemask.analysis.audit_mixed import SmallCopy
from truemask.analysis.audit_regions import CERTAIN, Region, regions, surprise
from truemask.data.marks import encode_runs
from truemask.labels import LabelMap

REGION_PIXELS = 1_500_000
"""Larger images are looked at in squares of several pixels."""

BORDER_SIDE = 320
"""Borders are looked for at a size whose longer side has at most so many squares."""

_MOST_TEXT = 30_000
"""Characters of a cell of a spreadsheet."""


@dataclass(frozen=True, kw_only=True)
class FoundRegion:
    """A disputed region, in pixels of the mask.

    Attributes:
        label: class that the label gives.
        prediction: class that the model gives.
        evidence: summed surprise of its squares beyond what is certain, over all labelled squares.
        left: first column of the box.
        top: first row.
        width: columns.
        height: rows.
        pixels: how many.
        cell: side of the squares of `runs`.
        runs: which squares of the box.
    """

    label: int
    prediction: int
    evidence: float
    left: int
    top: int
    width: int
    height: int
    pixels: int
    cell: int
    runs: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What speaks against the label of one image.

    Attributes:
        part: of the data.
        name: of the sample.
        height: of the mask.
        width: of the mask.
        disagreement: share of the labelled pixels to which the model gives another class.
        surprise: mean surprise of the labelled pixels, in nats; 0 is expected.
        contradiction: mean over the labelled pixels of the surprise beyond `CERTAIN` where the
            model gives another class.
        contradicted: share of the labelled pixels whose surprise is beyond `CERTAIN`.
        translation: the one that agrees best, in pixels of the mask.
        steps: of the border of each class, in pixels of the mask.
        regions: that with most evidence first.
        copy: label and prediction in small.
    """

    part: str
    name: str
    height: int
    width: int
    disagreement: float
    surprise: float
    contradiction: float
    contradicted: float
    translation: Translation
    steps: tuple[Step, ...]
    regions: tuple[FoundRegion, ...]
    copy: SmallCopy


def assess(
    logits: Float[Tensor, "L H W"],
    mask: UInt8[Tensor, "H W"],
    *,
    labels: LabelMap,
    calibration: Calibration,
    part: str = "",
    name: str = "",
) -> Evidence | None:
    """The evidence against one label.

    Args:
        logits: of the model.
        mask: the label: class ids and the ignored id, which is never held against anything.
        labels: the classes.
        calibration: of the model.
        part: told in the result.
        name: likewise.

    Returns:
        The evidence; `None` where no pixel has a label.
    """
    height, width = mask.shape
    cell = math.ceil(math.sqrt(height * width / REGION_PIXELS))
    coarse, ids = _reduced(logits, mask, cell)
    valid = ids != labels.ignore_index
    if not valid.any():
        return None
    said = class_logits(coarse, labels)
    known = calibration.log_probabilities(said)
    prediction = labels.decode(coarse[None])[0].cpu().numpy()
    surprises = surprise(known, ids, valid)
    found, contradiction = regions(ids, prediction, surprises, valid)
    labelled = int(valid.sum())
    step = math.ceil(max(height, width) / BORDER_SIDE)
    if step != cell:
        coarse, near = _reduced(logits, mask, step)
        known, border_valid = calibration.log_probabilities(class_logits(coarse, labels)), None
    else:
        near, border_valid = ids, valid
    border_valid = near != labels.ignore_index if border_valid is None else border_valid
    translation = Translation(0, 0, 0.0)
    steps: list[Step] = []
    if border_valid.any():
        translation = best_translation(known, near, border_valid)
        steps = border_steps(known, near, border_valid)
    return Evidence(
        part=part,
        name=name,
        height=height,
        width=width,
        disagreement=float((valid & (prediction != ids)).sum() / labelled),
        surprise=float(surprises.sum() / labelled),
        contradiction=contradiction / labelled,
        contradicted=float((surprises > CERTAIN).sum() / labelled),
        translation=Translation(
            translation.down * step, translation.right * step, translation.gain
        ),
        steps=tuple(Step(one.label, one.pixels * step, one.gain, one.border) for one in steps),
        regions=tuple(_told(region, labelled, cell, height, width) for region in found),
        copy=SmallCopy.of(ids, prediction, valid),
    )


def _reduced(
    logits: Float[Tensor, "L H W"], mask: UInt8[Tensor, "H W"], cell: int
) -> tuple[Float[Tensor, "L h w"], UInt8[np.ndarray, "h w"]]:
    """Squares of `cell` pixels: their mean logits, and the label in their middle."""
    ids = mask.cpu().numpy()
    if cell == 1:
        return logits.float(), ids
    coarse = functional.avg_pool2d(
        logits.float()[None], cell, ceil_mode=True, count_include_pad=False
    )[0]
    rows = np.minimum(np.arange(coarse.shape[1]) * cell + cell // 2, ids.shape[0] - 1)
    columns = np.minimum(np.arange(coarse.shape[2]) * cell + cell // 2, ids.shape[1] - 1)
    return coarse, np.ascontiguousarray(ids[np.ix_(rows, columns)])


def _told(region: Region, labelled: int, cell: int, height: int, width: int) -> FoundRegion:
    inside, squares = region.inside, cell
    text = encode_runs(inside)
    while len(text) > _MOST_TEXT:
        # Squares of twice the side, each as its first: a spreadsheet cuts longer cells.
        inside, squares = inside[::2, ::2], squares * 2
        text = encode_runs(inside)
    top, left = region.top * cell, region.left * cell
    return FoundRegion(
        label=region.label,
        prediction=region.prediction,
        evidence=region.evidence / labelled,
        left=left,
        top=top,
        width=min(region.inside.shape[1] * cell, width - left),
        height=min(region.inside.shape[0] * cell, height - top),
        pixels=region.pixels * cell * cell,
        cell=squares,
        runs=text,
    )
