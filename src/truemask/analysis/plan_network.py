"""The rules of a plan on network, batch and loss: pure functions of data, machine and time."""

import math
from collections.abc import Sequence

from truemask.analysis.plan_choice import Choice
from truemask.analysis.plan_facts import Facts
from truemask.analysis.plan_machine import Machine
from truemask.errors import counted

WIDTHS = (16, 32, 64)
"""First widths of the U-Nets that there is to choose from; each level below doubles it."""

DEFAULT_WIDTH = 32

ENOUGH_IMAGES = {16: 0, 32: 10_000, 64: 80_000}
"""Width -> images that a training must get through for it to be worth its time."""

ENOUGH_STEPS = 300
"""Below so many steps smaller batches, which make more of them, are worth more."""

SHARE_FOR_STEPS = 0.8
"""Of the time given; the rest goes to loading and validation."""


def receptive_field(levels: int, downscale: int) -> int:
    """Side in pixels of what decides an output of a U-Net with two 3x3 convolutions a level."""
    # In pixels of the first level: 4 a level and way, as two convolutions see 2 to either side; a
    # pooling sees one more of its own level's pixels.
    down = sum(4 << level for level in range(levels))
    pools = sum(1 << level for level in range(levels - 1))
    up = sum(4 << level for level in range(levels - 1))
    return downscale * (1 + down + pools + up)


def level_count(
    facts: Facts, crop: Sequence[int], *, downscale: int, shrink: float = 1.0
) -> tuple[int, str]:
    """Levels of the U-Net, and why.

    Args:
        facts: of the training part.
        crop: height and width of what is trained on.
        downscale: of the U-Net.
        shrink: by which images are resized.
    """
    widest = facts.thickest * shrink
    # The structures, and the scene that they are in: on the miniature of BDD100K four levels, which
    # saw 192 of 320 pixels, reached 0.159 where five reached 0.193.
    needed = max(3 * widest, *crop)
    levels = 3
    while levels < 5 and receptive_field(levels, downscale) < needed:
        levels += 1
    while levels > 2 and min(crop) / (downscale * 2 ** (levels - 1)) < 4:
        levels -= 1
    field = receptive_field(levels, downscale)
    reason = (
        f"{levels} levels see {field} pixels; the widest class is {widest:.0f} pixels "
        f"wide, what is trained on {max(crop)}"
    )
    return levels, reason


def width_choice(
    machine: Machine, *, seconds: float | None, levels: int, why_levels: str
) -> tuple[int, Choice]:
    """The first width of the network, from how many images it gets through in the time.

    Returns:
        The width, and the choice of all widths.
    """
    width, reason = DEFAULT_WIDTH, "no time is given"
    if seconds is not None:
        done = {w: image_budget(machine, w, seconds) for w in WIDTHS if w in machine.costs}
        width = max((w for w, n in done.items() if n >= ENOUGH_IMAGES[w]), default=WIDTHS[0])
        told = ", ".join(f"{w}: {_rounded(n):,}" for w, n in done.items())
        reason = f"images that fit into the time by first width: {told}"
        wider = next((w for w in WIDTHS if w > width), None)
        if wider is not None:
            reason += f"; {wider} is worth it from {ENOUGH_IMAGES[wider]:,} images on"
    widths = [width * 2**level for level in range(levels)]
    return width, Choice(key="model.widths", value=widths, reason=f"{reason}; {why_levels}")


def image_budget(machine: Machine, width: int, seconds: float) -> float:
    """Images that a network gets through in the time."""
    cost = machine.costs[width].seconds
    return math.inf if not cost else SHARE_FOR_STEPS * seconds / cost


def needed_images(width: int) -> int:
    """Images below which a wider network than this is not worth a look."""
    return min((n for w, n in ENOUGH_IMAGES.items() if w > width), default=0) // 4


def _rounded(number: float) -> int:
    """To two digits."""
    return int(float(f"{number:.2g}"))


def batch_choice(
    facts: Facts, machine: Machine, *, budget: float, width: int | None = None
) -> Choice:
    """Images a batch: by the steps that there will be, and bounded by the memory.

    Args:
        facts: of the training part.
        machine: with what an image keeps in memory.
        budget: images that the whole training goes through.
        width: the network's first; `None` where it is the user's own, of unknown size.
    """
    batch, steps = 8, budget / 8
    reason = "the number of steps is given"
    if steps < ENOUGH_STEPS:
        batch = 4
        told = counted(_rounded(steps), "step")
        reason = f"{told} of 8 images would be few: 4 make twice as many"
    elif steps < math.inf:
        reason = f"{_rounded(steps):,} steps of 8 images are enough"
    cost = None if width is None else machine.costs.get(width)
    if cost is not None:
        room = machine.memory // 4 // max(cost.bytes, 1)
        while batch > 1 and batch > room:
            batch //= 2
        reason += (
            f"; an image keeps {cost.bytes / 2**20:,.0f} MiB, of {machine.memory / 2**30:,.0f} GiB"
        )
    if facts.images < batch:
        batch = facts.images
        reason += f"; there {'is' if batch == 1 else 'are'} only {counted(batch, 'image')}"
    return Choice(key="data.batch_size", value=batch, reason=reason)


def loss_choice(facts: Facts) -> Choice:
    """The loss and its weights."""
    classes = [c for c in facts.classes.values() if c.share > 0]
    ratio = facts.imbalance
    if ratio < 3 or len(classes) < 2:
        reason = f"the classes are about as frequent ({ratio:.1f} to 1): no weights; Dice beside it"
        losses = [
            {"_target_": "truemask.losses.CrossEntropy"},
            {"_target_": "truemask.losses.Dice"},
        ]
    else:
        reason = (
            f"the most frequent class has {_rounded(ratio):,} times the pixels of the rarest: the "
            f"inverse square root evens that to {_rounded(math.sqrt(ratio)):,}, and Dice weighs "
            "all classes alike"
        )
        losses = [
            {"_target_": "truemask.losses.CrossEntropy", "weight": "inverse_sqrt"},
            {"_target_": "truemask.losses.Dice"},
        ]
    return Choice(key="loss.losses", value=losses, reason=reason)
