"""Errors put into masks on purpose, as labelling makes them: swapped, shifted, missing, mixed up.

Each function takes a mask of class ids and returns a changed copy, or `None` where the mask offers
nothing to get wrong in that way. Ignored pixels stay ignored, and nothing else becomes ignored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

Mask = UInt8[np.ndarray, "H W"]

LEAST = 0.003
"""Share of the pixels that an error changes, at least: less is nobody's concern."""


@dataclass(frozen=True)
class Kit:
    """What an injection may use besides the mask.

    Attributes:
        masks: of the same part, to be mixed up.
        own: which of `masks` is the one that is changed.
        classes: how many classes there are.
        ignored: the ignored id.
    """

    masks: Sequence[Mask]
    own: int
    classes: int
    ignored: int


def swapped(mask: Mask, kit: Kit, random: np.random.Generator) -> Mask | None:
    """One connected region gets another class, of those that this dataset has."""
    regions = _regions(mask, kit)
    if not regions:
        return None
    region = regions[int(random.integers(len(regions)))]
    own = int(mask[region][0])
    other = int(random.choice([c for c in range(kit.classes) if c != own]))
    changed = mask.copy()
    changed[region] = other
    return changed


def missing(mask: Mask, kit: Kit, random: np.random.Generator) -> Mask | None:
    """One object is filled with what surrounds it.

    A region of up to a tenth of the image; of two classes, one of the foreground.
    """
    regions = [r for r in _regions(mask, kit) if r.mean() <= 0.1 or kit.classes == 2]
    if kit.classes == 2:
        regions = [r for r in regions if mask[r][0] == 1]
    if not regions:
        return None
    region = regions[int(random.integers(len(regions)))]
    own = int(mask[region][0])
    around = ~region & (mask != own) & (mask != kit.ignored)
    if not around.any():
        return None
    places = ndimage.distance_transform_edt(~around, return_distances=False, return_indices=True)
    filled = mask[places[0], places[1]]
    changed = mask.copy()
    changed[region] = filled[region]
    return changed


def shifted(mask: Mask, kit: Kit, random: np.random.Generator) -> Mask | None:
    """Borders lie 2 to 4 % of the shorter side off.

    Of the whole mask, which is moved, or of one class, which is too large or too small.
    """
    side = min(mask.shape)
    step = max(2, round(side * float(random.uniform(0.02, 0.04))))
    if random.uniform() < 0.5:
        angle = random.uniform(0, 2 * np.pi)
        down, right = round(step * np.sin(angle)), round(step * np.cos(angle))
        changed = _moved(mask, down, right)
    else:
        present = [c for c in range(kit.classes) if LEAST * 4 <= (mask == c).mean() <= 0.5]
        if not present:
            return None
        chosen = int(random.choice(present))
        changed = _grown(mask, chosen, step, kit) if random.uniform() < 0.5 else None
        if changed is None:
            changed = _shrunk(mask, chosen, step, kit)
    void = mask == kit.ignored
    changed = np.where(void | (changed == kit.ignored), mask, changed)
    return changed if (changed != mask).mean() >= LEAST else None


def other_mask(mask: Mask, kit: Kit, random: np.random.Generator) -> Mask | None:
    """The mask of another image of the part, brought to this size; one that differs by a tenth."""
    order = [int(i) for i in random.permutation(len(kit.masks)) if i != kit.own]
    for index in order[:20]:
        found = _fitted(kit.masks[index], mask.shape)
        void = (mask == kit.ignored) | (found == kit.ignored)
        changed = np.where(void, mask, found)
        if (changed != mask).mean() >= 0.1:
            return changed
    return None


Injection = Callable[[Mask, Kit, np.random.Generator], Mask | None]

KINDS: dict[str, Injection] = {
    "swapped class": swapped,
    "shifted border": shifted,
    "missing object": missing,
    "another image's mask": other_mask,
}


def inject(
    masks: Sequence[Mask],
    kinds: Sequence[str],
    *,
    share: float,
    seed: int,
    classes: int,
    ignored: int,
) -> dict[int, tuple[str, Mask]]:
    """Errors in a share of the masks, the kinds in turn.

    Returns:
        Index of a mask -> the kind of its error, and the mask with it.
    """
    random = np.random.default_rng(seed)
    wanted = max(1, round(share * len(masks)))
    injected: dict[int, tuple[str, Mask]] = {}
    for trial, index in enumerate(random.permutation(len(masks))):
        if len(injected) == wanted:
            break
        kind = kinds[trial % len(kinds)]
        kit = Kit(masks, int(index), classes, ignored)
        changed = KINDS[kind](masks[index], kit, random)
        if changed is not None:
            injected[int(index)] = (kind, changed)
    return injected


def _regions(mask: Mask, kit: Kit) -> list[Bool[np.ndarray, "H W"]]:
    """The connected regions of every class, those of a class from top left on."""
    found = []
    for own in range(kit.classes):
        labelled, count = ndimage.label(mask == own)
        sizes = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
        found += [labelled == i + 1 for i in np.flatnonzero(sizes >= LEAST * mask.size)]
    return found


def _moved(mask: Mask, down: int, right: int) -> Mask:
    """Moved by whole pixels; what comes in at an edge repeats the edge."""
    height, width = mask.shape
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    moved: Mask = mask[rows][:, columns]
    return moved


def _grown(mask: Mask, chosen: int, step: int, kit: Kit) -> Mask:
    away = ndimage.distance_transform_edt(mask != chosen)
    changed = mask.copy()
    changed[(away <= step) & (mask != kit.ignored)] = chosen
    return changed


def _shrunk(mask: Mask, chosen: int, step: int, kit: Kit) -> Mask:
    others = (mask != chosen) & (mask != kit.ignored)
    if not others.any():
        return mask
    away, places = ndimage.distance_transform_edt(~others, return_indices=True)
    changed = mask.copy()
    edge = (mask == chosen) & (away <= step)
    changed[edge] = mask[places[0], places[1]][edge]
    return changed


def _fitted(mask: Mask, shape: tuple[int, ...]) -> Mask:
    rows = (np.arange(shape[0]) + 0.5) * mask.shape[0] / shape[0]
    columns = (np.arange(shape[1]) + 0.5) * mask.shape[1] / shape[1]
    fitted: Mask = mask[rows.astype(int)][:, columns.astype(int)]
    return fitted
