"""The rules of a plan on what is trained on, and how large: pure functions of the data's facts.

Each choice has a reason in words with the figure that it rests on. The constants were chosen on the
validation parts of CamVid and CrackForest; docs/plan.md says what they bring, there and elsewhere.
"""

import math
from collections.abc import Sequence

from truemask.analysis.plan_choice import Choice
from truemask.analysis.plan_facts import Facts
from truemask.analysis.plan_symmetry import has_up, may_turn
from truemask.training.setup import CROP_PIXELS

THIN = 4.0
"""Pixels: what is thinner loses most from being scaled down."""

RARE = 0.02
"""Share of the pixels below which crops are laid on a class, if it is small enough to be missed."""

SMALL_CROP = 0.25
"""Share of the image below which a crop may well miss a rare class; focus brought
nothing to crops of half the image."""

FOCUS = 1 / 3
"""Share of the crops that are laid on rare classes, as in nnU-Net."""


def side_choices(facts: Facts, *, stride: int) -> list[Choice]:
    """Resize or crop, and its size.

    Args:
        facts: of the training part.
        stride: what the network's input is padded to a multiple of.
    """
    pixels = facts.height * facts.width
    thinnest = facts.thinnest
    if facts.endless or pixels <= CROP_PIXELS:
        return [
            Choice(
                key="data.crop",
                value=None if facts.endless else [facts.height, facts.width],
                reason=f"images of {facts.height} x {facts.width} are small enough to be trained "
                f"on whole (up to {CROP_PIXELS:,} pixels)",
            )
        ]
    # A power of two, so that the figures are the same on images that differ by a few pixels.
    shrink = 2 ** -int(math.log2(math.sqrt(pixels / CROP_PIXELS)))
    if shrink < 1 and thinnest is not None and thinnest[1] * shrink >= 2 * THIN:
        size = [_multiple(side * shrink, stride) for side in (facts.height, facts.width)]
        return [
            Choice(
                key="data.resize",
                value=size,
                reason=f"even the thinnest class, {thinnest[0]}, is {thinnest[1]:.0f} pixels wide: "
                f"at {shrink:g} of {facts.height} x {facts.width} it still has "
                f"{thinnest[1] * shrink:.0f}, and the network sees the whole image",
            ),
            Choice(
                key="data.evaluation_size",
                value="native",
                reason="scores are of the masks at their own size, whatever the network works at",
            ),
        ]
    size = crop_size(facts, stride=stride)
    why = "images are larger than a training crop"
    if thinnest is not None and shrink < 1:
        why = (
            f"{thinnest[0]} is {thinnest[1]:.1f} pixels wide, and would be lost at "
            f"{shrink:g} of {facts.height} x {facts.width}: crops keep its size"
        )
    elif thinnest is not None:
        why = (
            f"images of {facts.height} x {facts.width} stay at their size ({thinnest[0]} is "
            f"{thinnest[1]:.1f} pixels wide); crops of {CROP_PIXELS:,} pixels make more steps of "
            "the time"
        )
    return [Choice(key="data.crop", value=size, reason=why)]


def crop_size(facts: Facts, *, stride: int) -> list[int]:
    """Height and width of a crop: the shape of the images, or a square where they may be turned."""
    if may_turn(facts):
        # Not by the smallest image: one of them would make the crops of all others as small.
        side = min(_multiple(math.sqrt(CROP_PIXELS), stride), facts.height, facts.width)
        return [side, side]
    shrink = min(1.0, math.sqrt(CROP_PIXELS / (facts.height * facts.width)))
    return [min(side, _multiple(side * shrink, stride)) for side in (facts.height, facts.width)]


def _multiple(length: float, stride: int) -> int:
    return max(stride, round(length / stride) * stride)


def scale_choice(facts: Facts, crop: Sequence[int]) -> Choice:
    """How far crops are zoomed."""
    fits = max(crop[0] / facts.height, crop[1] / facts.width)
    low = round(min(max(fits, 0.5), 0.8), 2)
    thinnest = facts.thinnest
    if thinnest is not None and thinnest[1] < THIN and not has_up(facts):
        reason = (
            f"{thinnest[0]} is {thinnest[1]:.1f} pixels wide, and images without an up and a down "
            "have one scale: little zoom"
        )
        return Choice(key="data.scale", value=[0.8, 1.25], reason=reason)
    reason = (
        f"at zooms below {fits:.2f} an image does not fill the crop: little time goes into padding"
        if fits > 0.5
        else "images are much larger than the crop, which sees more of them when they shrink"
    )
    return Choice(key="data.scale", value=[low, 1.25], reason=reason)


def focus_choice(facts: Facts, crop: Sequence[int]) -> Choice | None:
    """Which classes crops are laid on, where a crop is small enough to miss them."""
    if crop[0] * crop[1] > SMALL_CROP * facts.height * facts.width:
        return None
    rare = [name for name, one in facts.classes.items() if 0 < one.share < RARE and one.present > 0]
    if not rare or len(rare) == len(facts.classes):
        return None
    share = round(FOCUS / len(rare), 3)
    told = ", ".join(f"{name} {facts.classes[name].share:.2%}" for name in rare)
    return Choice(
        key="data.focus",
        value=dict.fromkeys(rare, share),
        reason=f"rare classes ({told} of the pixels): a third of the crops is laid on them",
    )
