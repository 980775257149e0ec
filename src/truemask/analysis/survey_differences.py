"""Class shares of some images against those of others: is that chance?

The pixels of an image are not independent, so images are what is dealt. With e_i = n_ik - p n_i,
the pixels of class k that image i has beyond its part at the common share p, the two mean excesses
differ under random dealing with variance S^2 (1/a + 1/b), S^2 that of e over all images, a and b
the images of the two sides: the variance of the permutation test, in closed form (Fisher 1935;
Pitman 1937), which sums of integers are enough for. Their difference is close to normal by
Hoeffding's theorem (1951) where the images are many; with fewer than `FEWEST` a side nothing is
said.
"""

import math
from collections.abc import Sequence

from truemask.analysis.survey_counts import Tally
from truemask.analysis.survey_result import GroupDifference, ShareDifference

FEWEST = 10
"""Images of a side below which a difference is not judged."""


def difference(
    one: Tally, other: Tally, *, names: Sequence[str], one_name: str, other_name: str
) -> GroupDifference:
    """Hold two sets of images against each other, class by class.

    Args:
        one: of the one set.
        other: of the other; no image is in both.
        names: of the classes.
        one_name: what the one is called.
        other_name: what the other is called.
    """
    found = []
    if min(one.images, other.images) >= FEWEST and one.labelled and other.labelled:
        for k, name in enumerate(names):
            if int(one.pixels[k] + other.pixels[k]) > 0:
                z = _deviations(one, other, k)
                found.append((name, k, z, math.erfc(abs(z) / math.sqrt(2))))
    adjusted = holm([p for *_, p in found])
    classes = [
        ShareDifference(
            name=name,
            share=int(one.pixels[k]) / one.labelled,
            other_share=int(other.pixels[k]) / other.labelled,
            z=z,
            p=p,
            adjusted=least,
        )
        for (name, k, z, p), least in zip(found, adjusted, strict=True)
    ]
    return GroupDifference(
        one=one_name,
        other=other_name,
        images=one.images,
        other_images=other.images,
        classes=sorted(classes, key=lambda found: -abs(found.z)),
    )


def _deviations(one: Tally, other: Tally, k: int) -> float:
    """The difference of the mean excesses, in its standard deviations under random dealing."""
    a, b = one.images, other.images
    n = a + b
    # With N labelled pixels and M of the class, N e_i is an integer: all sums are exact.
    labelled = one.labelled + other.labelled
    of_class = int(one.pixels[k] + other.pixels[k])
    excess = [labelled * int(side.pixels[k]) - of_class * side.labelled for side in (one, other)]
    squares = (
        labelled**2 * (one.squares[k] + other.squares[k])
        - 2 * labelled * of_class * (one.products[k] + other.products[k])
        + of_class**2 * (one.labelled_squares + other.labelled_squares)
    )
    # The excesses of all images add up to 0, so that their mean is no part of the variance.
    variance = squares * (a + b) / (a * b) / (n - 1)
    if variance <= 0:
        return 0.0
    return (excess[0] / a - excess[1] / b) / math.sqrt(variance)


def holm(values: Sequence[float]) -> list[float]:
    """Probabilities corrected for their number.

    Holm, "A simple sequentially rejective multiple test procedure" (1979): the chance that any of
    them is below 5 % by chance is 5 %, whatever depends on what.
    """
    order = sorted(range(len(values)), key=lambda place: values[place])
    adjusted = [0.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted
