"""Rules on how much there is of each class: none, only ignored, too little, lost by a resize."""

from collections.abc import Iterator

import numpy as np

from truemask.checks.finding import Finding, rule
from truemask.checks.mask_balance import balances
from truemask.checks.mask_objects import Lost
from truemask.checks.mask_part import Part, named, names
from truemask.datasets.layout import some
from truemask.errors import counted

_SMALL_PART = 30
"""With fewer images, a class may be absent by chance, and only a note is given."""

_LARGEST = 0.95
"""A class with a greater share of the pixels leaves the others to be forgotten."""

_GONE = 0.1
"""Share of a class's objects that a resize may lose."""

_PIXELS_GONE = 0.01
"""Share of a class's pixels in lost objects from which on the loss is worth a warning."""


@rule("TM110", "absent-class", "warning")
def absent_class(part: Part) -> Iterator[Finding]:
    """A class of the class table occurs in no mask of the part.

    Why it matters:
        In training it is never learnt, in validation and test its score is undefined: left out of
        the mean, or counted as 0 or 1, depending on the metric. Often it is a sign of ids that are
        shifted or mapped wrongly.

    How it decides:
        No pixel of any mask has the class. A note where only a sample of the masks was read, or the
        part has fewer than 30 images, in which a rare class may be absent by chance. Nothing is
        said if no class but one occurs, which is another fault.

    False alarms:
        A class table shared by several data sets.

    How to mend:
        Correct the ids, divide the data so that every part shows every class
        (`data.split.stratify`), or drop the class.
    """
    if not part.meanings.told or not part.read:
        return
    used = part.pixels.sum(0)
    usable = set(part.meanings.ids.values())
    absent = [k for k in range(len(used)) if used[k] == 0 and k in usable]
    if not absent or np.count_nonzero(used) < 2:
        return
    sampled = len(part.samples) < part.samples.total
    few = len(part.read) < _SMALL_PART
    shown = some([f"{part.meanings.names[k]} ({k})" for k in absent], 6)
    yield absent_class.finding(
        f"{'Class' if len(absent) == 1 else f'{len(absent)} classes'} {shown} "
        f"occur{'s' if len(absent) == 1 else ''} in none of the {len(part.read)} masks "
        f"{'that were read' if sampled else 'of the part'}.",
        level="note" if sampled or few else "warning",
        where=part.where(),
        remedy="Check the ids of these classes, divide the data anew, or drop the classes.",
        evidence=part.evidence(
            absent=[part.meanings.names[k] for k in absent], masks=len(part.read)
        ),
    )


@rule("TM111", "ignored-image", "warning")
def ignored_image(part: Part) -> Iterator[Finding]:
    """Every pixel of an image is ignored.

    Why it matters:
        It trains nothing and counts nowhere, but takes its time. The mean over no pixel is NaN: a
        batch of such images turns the weights of the model into NaN under a plain cross-entropy.
        GTA5, a data set of one of the published projects, holds blank masks.

    How it decides:
        All pixels of the mask have the ignored id.

    False alarms:
        None.

    How to mend:
        Remove these images, or label them.
    """
    found = [
        record
        for record, ignored, area in zip(part.read, part.ignored, part.areas, strict=True)
        if ignored == area > 0
    ]
    if not found:
        return
    yield ignored_image.finding(
        f"{counted(len(found), 'image')} of {len(part.read)} "
        f"{'is' if len(found) == 1 else 'are'} ignored as a whole ({named(found)}).",
        where=part.where(found[0].where),
        remedy="Remove these images from the part, or label them.",
        evidence=part.evidence(masks=names(found), count=len(found)),
        pictures=part.pictures(found, "every pixel is ignored"),
    )


@rule("TM112", "imbalance", "warning")
def imbalance(part: Part) -> Iterator[Finding]:
    """One class has nearly all pixels, and the loss does nothing about it.

    Why it matters:
        Predicting the large class everywhere is then so good that training stays there for long, or
        for ever. The published edges project has 3.6 % edges; its unweighted model kept a training
        IoU of 0.0000 for seven epochs, and tested at 0.0042 against 0.1931 with a weight.

    How it decides:
        The largest class has more than 95 % of the pixels that are not ignored, and the loss, which
        must be given, treats the rare class like the large one: its gradient on a pixel of the rare
        class is less than three times what a plain cross-entropy gives, at an undecided prediction
        and at one that favours the large class. So weights, focal losses and region losses (Dice,
        Jaccard) are recognised by what they do. Without a loss nothing is said.

    False alarms:
        Data so easy that a plain loss learns the rare class all the same, as large clean cut-outs.

    How to mend:
        Weight the classes (`pos_weight` = negatives / positives), or add a Dice term.
    """
    used = part.pixels.sum(0)
    total = int(used.sum())
    if part.loss is None or total == 0 or np.count_nonzero(used) < 2:
        return
    largest = int(used.argmax())
    rare = int(np.where(used > 0, used, total + 1).argmin())
    share = used[largest] / total
    if share <= _LARGEST:
        return
    classes = len(part.meanings.names)
    ignored = next(iter(part.meanings.ignored), None)
    if balances(part.loss, classes=classes, large=largest, rare=rare, ignored=ignored) is not False:
        return
    others = 1 - share
    yield imbalance.finding(
        f"{part.meanings.names[largest]} has {share:.2%} of the pixels, and the loss weighs "
        f"{'those' if classes > 2 else 'the'} {others:.2%} of "
        f"{part.meanings.names[rare] if classes == 2 else 'all other classes'} no more than "
        "its own.",
        where=part.where(),
        remedy=f"Weight the classes (pos_weight about {used[largest] / max(used[rare], 1):.0f}), "
        "or add a Dice loss.",
        evidence=part.evidence(
            shares={
                n: round(float(u / total), 5)
                for n, u in zip(part.meanings.names, used, strict=True)
            }
        ),
    )


@rule("TM116", "lost-by-resizing", "warning")
def lost_by_resizing(part: Part) -> Iterator[Finding]:
    """Objects vanish from the masks at the size at which the model trains.

    Why it matters:
        What is smaller than a pixel after the resize is not in the truth any more: it is neither
        learnt nor missed, and scores at that size say nothing of it. The driving project trains on
        128x128 pixels of 1280x720, where poles, signs and distant cars are gone.

    How it decides:
        The connected regions of each class are followed through a resize by the nearest pixel to
        the training size, which must be given. A warning where a tenth of a class's objects and a
        hundredth of its pixels lose every pixel; a note where a tenth of the objects does, but less
        of the pixels.

    False alarms:
        Masks with many specks, which are regions too.

    How to mend:
        Train at a larger size, or on crops of the full size; or report scores at the full size.
    """
    lost: dict[int, Lost] = {}
    for record in part.read:
        for value, found in record.lost.items():
            k = part.meanings.ids.get(value)
            if k is not None:
                lost[k] = lost.get(k, Lost()).merge(found)
    small = {k: found for k, found in lost.items() if found.gone / max(found.objects, 1) >= _GONE}
    if not small or part.train_size is None:
        return
    serious = {k: f for k, f in small.items() if f.pixels_gone / max(f.pixels, 1) >= _PIXELS_GONE}
    chosen = serious or small
    worst = sorted(chosen, key=lambda k: -chosen[k].gone / chosen[k].objects)
    shown = [
        f"{chosen[k].gone / chosen[k].objects:.0%} of {chosen[k].objects} of "
        f"{part.meanings.names[k]} ({chosen[k].pixels_gone / chosen[k].pixels:.1%} of its pixels)"
        for k in worst
    ]
    yield lost_by_resizing.finding(
        f"Resized to {part.train_size[0]}x{part.train_size[1]}, objects vanish from the masks: "
        f"{some(shown, 4)}.",
        level="warning" if serious else "note",
        where=part.where(),
        remedy="Train at a larger size or on crops, and report scores at the full size.",
        evidence=part.evidence(
            classes={
                part.meanings.names[k]: {
                    "objects": lost[k].objects, "gone": lost[k].gone,
                    "pixels": lost[k].pixels, "pixels_gone": lost[k].pixels_gone,
                }
                for k in worst
            }
        ),
    )  # fmt: skip
