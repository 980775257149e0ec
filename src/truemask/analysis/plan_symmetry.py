"""The rules of a plan on augmentation: what the labels allow to be done to image and mask."""

import re

from truemask.analysis.plan_choice import Choice
from truemask.analysis.plan_facts import Facts

UPRIGHT = 0.02
"""Change of the class map under a flip from which on the images have an up and a down."""

ONE_SIDED = 0.35
"""Likewise from which on left and right are not alike; streets, driven on one side, have 0.1."""

TURNED = 2.0
"""Ratio of upright to level edges, or its inverse, up to which quarter turns are allowed."""

COLOUR_TELLS = 0.9
"""Share of regions whose mean colour tells their class, from which on colours stay as they are."""

_V2 = "torchvision.transforms.v2"


def has_up(facts: Facts) -> bool:
    """Whether images have an up and a down."""
    return facts.upside_down >= UPRIGHT


def names_sides(facts: Facts) -> bool:
    """Whether a class's name says left or right: `left lung`, `hand_right`, `leftLung`, `LEFT2`."""
    apart = " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in facts.classes)
    return not {"left", "right"}.isdisjoint(re.findall(r"[^\W\d_]+", apart.lower()))


def may_mirror(facts: Facts) -> bool:
    """Whether left and right may be exchanged."""
    return not names_sides(facts) and facts.mirrored < ONE_SIDED


def may_turn(facts: Facts) -> bool:
    """Whether images may be turned by 90 degrees."""
    ratio = max(facts.edge_ratio, 1 / max(facts.edge_ratio, 1e-9))
    return not has_up(facts) and may_mirror(facts) and ratio <= TURNED


def augmentation_choices(facts: Facts) -> list[Choice]:
    """What may be done to image and mask."""
    if facts.endless:
        reason = "every epoch has new images: there is nothing to add to them"
        return [Choice(key="data.augmentation", value=None, reason=reason)]
    choices = []
    if not may_mirror(facts):
        reason = (
            "a class's name says left or right"
            if names_sides(facts)
            else f"the map of the classes changes by {facts.mirrored:.2f} when mirrored"
        )
        choices.append(
            Choice(key="data.augmentation.flip", value=None, reason=f"no flip: {reason}")
        )
    else:
        choices.append(
            Choice(
                key="data.augmentation.flip",
                value={"_target_": f"{_V2}.RandomHorizontalFlip"},
                reason=f"the map of the classes changes by only {facts.mirrored:.2f} when mirrored",
            )
        )
    if has_up(facts):
        reason = (
            f"no flip upside down: the map of the classes changes by {facts.upside_down:.2f} "
            f"(from {UPRIGHT:g} on images have an up)"
        )
        choices.append(Choice(key="data.augmentation.vertical", value=None, reason=reason))
    elif names_sides(facts):
        reason = "no flip upside down: a class's name says left or right, and it mirrors as well"
        choices.append(Choice(key="data.augmentation.vertical", value=None, reason=reason))
    elif may_turn(facts):
        reason = (
            f"up, down, left and right are alike ({facts.upside_down:.3f}, {facts.mirrored:.3f} "
            f"of the map changes), with {facts.edge_ratio:.1f} upright edges to a level one"
        )
        target = "truemask.data.transforms.RandomQuarterTurn"
        choices.append(
            Choice(key="data.augmentation.turn", value={"_target_": target}, reason=reason)
        )
    else:
        reason = f"only {facts.upside_down:.3f} of the map of the classes changes upside down"
        choices.append(
            Choice(
                key="data.augmentation.vertical",
                value={"_target_": f"{_V2}.RandomVerticalFlip"},
                reason=reason,
            )
        )
    choices.append(colour_choice(facts))
    return choices


def colour_choice(facts: Facts) -> Choice:
    """Whether colours may change."""
    key = "data.augmentation.color"
    if not facts.photos:
        reason = (
            "no colour jitter: these are no photographs of 8 bits, their values may mean something"
        )
        return Choice(key=key, value=None, reason=reason)
    if facts.colour is not None and facts.colour >= COLOUR_TELLS:
        reason = f"no colour jitter: the mean colour alone tells {facts.colour:.0%} of the regions"
        return Choice(key=key, value=None, reason=reason)
    reason = (
        "fewer than 2 classes are in 2 images or more, so that colours cannot tell them apart"
        if facts.colour is None
        else f"the mean colour alone tells the class of only {facts.colour:.0%} of the regions"
    )
    return Choice(
        key=key,
        value={
            "_target_": f"{_V2}.ColorJitter",
            "brightness": 0.3,
            "contrast": 0.3,
            "saturation": 0.3,
        },
        reason=reason,
    )
