"""Whether a training learnt anything, by what it wrote down: TM602, TM603, and TM601 of scores."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.histories import Column, History, thinned, trend

_STILL = 0.002
"""A loss whose values all lie within this share of their mean has not moved."""
_FALL = 0.01
"""The least share of itself by which a loss that learns falls."""
_SURE = 2.326
"""The z value of 1 % to one side."""


@rule("TM602", "non-finite", "error")
def non_finite(history: History) -> Iterator[Finding]:
    """A loss became NaN or infinite during training.

    Why it matters:
        From that step on the weights are NaN too, or the step was skipped and nothing was learnt;
        a mean over the epoch, or a smoothed curve, may hide it. Typical causes are a learning rate
        that is too high, float16 without loss scaling, a logarithm or a division by a count that
        is 0, such as Dice of an image without the class.

    How it decides:
        Every value of a column whose name holds "loss" must be a finite number; an empty cell is
        no value. A training of Truemask leaves out steps without a finite gradient and counts
        them: more than 5 % of all steps (and more than 20) are a warning. In a guard, every loss
        that was passed in counts.

    False alarms:
        None known: a finite loss is never reported. float16 skips a few steps while its scale is
        found, which is below the limit.

    How to mend:
        Lower the learning rate or warm it up, clip the gradient, compute the loss in float32, and
        check the loss by itself with `check_loss`, which finds the division by nothing (TM407).
    """
    for column in [*history.losses(held_out=False), *history.losses(held_out=True)]:
        bad = [
            place
            for place, v in zip(column.places, column.values, strict=True)
            if not math.isfinite(v)
        ]
        if bad:
            yield non_finite.finding(
                f"{column.name} is not a finite number in {len(bad)} of {len(column.values)} rows, "
                f"first at {history.place(bad[0])}.",
                where=f"{history.source}: {column.name}",
                evidence={"rows": len(column.values), "not_finite": len(bad), "first_row": bad[0]},
                remedy="Lower the learning rate, clip the gradient, and run check_loss.",
            )
    yield from _skipped(history)


def _skipped(history: History) -> Iterator[Finding]:
    skipped, steps = history.columns.get("skipped_steps"), history.columns.get("step")
    if skipped is None or steps is None or not skipped.finite or not steps.finite:
        return
    lost, of = int(sum(skipped.finite)), int(max(steps.finite))
    if lost > 20 and lost > 0.05 * of:
        yield non_finite.finding(
            f"{lost} of {of} steps changed nothing, as their gradient was not a finite number.",
            level="warning",
            where=history.source,
            evidence={"skipped_steps": lost, "steps": of},
            remedy="Lower optimizer.lr, or train with trainer.precision=32.",
        )


@rule("TM603", "loss-never-moved", "error")
def never_moved(history: History) -> Iterator[Finding]:
    """The training loss did not fall from the first row to the last.

    Why it matters:
        In the textures project a softmax over one channel made the loss exactly 0 for a hundred
        epochs, and nothing was learnt. The same happens with frozen parameters, an optimiser that
        holds other parameters than the model's, a learning rate of almost 0, or a detached loss.

    How it decides:
        By the training losses of three rows or more. The loss has not moved if all its values lie
        within 0.2 % of their mean; or, of fewer than eight rows, within 1 % with the last not below
        the first; or, from eight rows on, if the mean of the last quarter is not at least 1 % (and
        three standard errors) below that of the first and there is no falling
        trend (Mann-Kendall, one-sided, 1 %). It says nothing where a score rises with the same
        certainty. Long tables of single steps are first averaged to 200 values.

    False alarms:
        A model that was trained to the end before and is trained on with the same data may fall by
        less than 1 %.

    How to mend:
        Run `check_loss` and `check_model`, which show whether a gradient reaches every parameter;
        see that the optimiser was made from this model's parameters, and raise the learning rate.
    """
    columns = history.losses(held_out=False) or history.losses(held_out=True)
    scores = [*history.scores(held_out=False), *history.scores(held_out=True)]
    if any(trend(thinned(column.finite)) > _SURE for column in scores):
        return
    for column in columns:
        values = thinned(column.finite)
        how = stillness(values)
        if how:
            yield never_moved.finding(
                f"{column.name} {how} over {len(column.finite)} rows.",
                where=f"{history.source}: {column.name}",
                evidence={"first": values[0], "last": values[-1], "least": min(values),
                          "largest": max(values), "trend_z": round(trend(values), 2)},
                remedy="Run check_loss and check_model on this loss and model, and see that the "
                "optimiser holds the model's parameters at a learning rate above 0.",
            )  # fmt: skip


def stillness(values: list[float]) -> str:
    """How a loss did not fall, in words; empty where it fell or that cannot be told."""
    if len(values) < 3:
        return ""
    if min(values) == max(values):
        return f"is {values[0]:.6g}, the same to the last digit,"
    mean = math.fsum(values) / len(values)
    if max(values) - min(values) <= _STILL * abs(mean):
        return f"stays between {min(values):.6g} and {max(values):.6g}"
    # Few rows: one that learns loses more than a hundredth, and does not end where it began.
    if len(values) < 8:
        flat = max(values) - min(values) <= _FALL * abs(mean) and values[-1] >= values[0]
        return f"begins at {values[0]:.6g} and ends at {values[-1]:.6g}" if flat else ""
    quarter = len(values) // 4
    first, last = (math.fsum(part) / quarter for part in (values[:quarter], values[-quarter:]))
    # A normal deviation from the median of the steps, which one great fall does not enlarge.
    noise = 1.4826 * median(abs(b - a) for a, b in pairwise(values)) / math.sqrt(2)
    least = max(_FALL * abs(first), 3 * noise * math.sqrt(2 / quarter))
    if last > first - least and trend(values) > -_SURE:
        return f"goes from {first:.6g} to {last:.6g} (means of a quarter)"
    return ""


@rule("TM601", "collapsed", "error")
def collapsed(history: History) -> Iterator[Finding]:
    """The model predicts one class everywhere, or next to nothing of any other.

    Why it matters:
        Training the edges project without a weight gave an IoU of exactly 0 for seven epochs, while
        the loss fell and the pixel accuracy stood at 96 %: the model said "no edge" everywhere.

    How it decides:
        By the counts of pixels, where there are some: the model has collapsed if all classes but
        the one that it predicts most have less than 2 % as many predicted pixels as true ones, and
        at least 100 true ones. Where there is only a table: if an IoU, Dice or F1 is 0 (below
        0.0001) in the last three validations or more, or in half of eight or more that all stay
        below 0.01, or a score is the same to the last digit in
        three or more (ten, if it has three decimals or less). In a guard: if ten
        looks, one in 50 steps, or five validations in a row all say so.

    False alarms:
        A part whose images all hold one class cannot collapse and is not reported. A training of a
        very rare class may begin collapsed and recover: the last validations count.

    How to mend:
        Weigh the rare classes (`loss.pos_weight=balanced`, `weight=inverse_sqrt`), or take a
        region loss such as Dice besides; look at the masks with `truemask check` first.
    """
    for column in history.scores(held_out=True) or history.scores(held_out=False):
        values = column.finite
        last = values[-3:]
        if column.overlap and len(values) >= 8 and max(values) < 0.01 and median(values) <= 1e-4:
            said = f"never exceeds {max(values):.4f} in {len(values)} validations, most of them 0"
            yield _score_finding(history, column, said, len(values))
        elif column.overlap and len(last) == 3 and max(last) <= 1e-4:
            run = _trailing(values, lambda value: value <= 1e-4)
            yield _score_finding(history, column, f"is 0 in the last {run} validations", run)
        elif (
            len(values) >= (10 if round(values[0], 3) == values[0] else 3) and len(set(values)) == 1
        ):
            said = (
                f"is {values[0]:.6g} in all {len(values)} validations, the same to the last digit"
            )
            yield _score_finding(history, column, said, len(values))


def _trailing(values: list[float], holds: Callable[[float], bool]) -> int:
    count = 0
    for value in reversed(values):
        if not holds(value):
            break
        count += 1
    return count


def _score_finding(history: History, column: Column, said: str, run: int) -> Finding:
    return collapsed.finding(
        f"{column.name} {said}: the model predicts one class.",
        where=f"{history.source}: {column.name}",
        evidence={"last": column.finite[-1], "validations": len(column.finite), "in_a_row": run},
        remedy="Weigh the rare classes in the loss, and look at what the model predicts.",
    )


RULES: tuple[Rule, ...] = (collapsed, non_finite, never_moved)
