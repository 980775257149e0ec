"""Whether a training ended at the right time: TM614 too early, TM615 too late."""

import math
from collections.abc import Iterator

from truemask.checks.finding import Finding, Rule, rule
from truemask.checks.histories import Column, History, trend

_ANNEALED = 0.1
"""A learning rate below this share of its largest has come to its end."""
_GAIN = 0.01
_FAST = 0.05
"""Shares of the score's (or loss's) own range by which the last quarter of a training improves."""
_LOST = 0.03
"""Share of its best value by which a figure must have got worse."""
_RISE = 0.1
"""The same of a loss that is worth a warning."""


@rule("TM614", "not-finished", "warning")
def not_finished(history: History, column: Column) -> Iterator[Finding]:
    """The training ended while its validation was still getting better.

    Why it matters:
        Two settings compared after too few epochs are ranked by how fast they begin, not by how far
        they come: in the driving project low learning rates looked bad only as they were not done.

    How it decides:
        The best validation is the last of three or more, the last quarter of them improved the
        best value by more than 5 % of all that the training gained, and the learning rate had not
        come to its end (below a tenth of its largest). Where it had, the schedule meant the end:
        only a last quarter that brought more than 25 % is reported, as a note.

    False alarms:
        A training that was cut short on purpose, to try something, is reported; it is right to.

    How to mend:
        Train longer (`trainer.max_epochs`, `trainer.max_time`; `resume=RUN` goes on), or say beside
        the figure that the training had not converged.
    """
    values = _upwards(column)
    if len(values) < 3 or values.index(max(values)) != len(values) - 1:
        return
    quarter = max(1, len(values) // 4)
    gained = max(values) - values[0]
    late = max(values) - max(values[:-quarter])
    annealed = _annealed(history)
    if (
        gained <= 0
        or late <= (0.25 if annealed else _FAST) * gained
        or late < _GAIN * abs(values[-1])
    ):
        return
    yield not_finished.finding(
        f"The best {column.name}, {column.finite[-1]:.4g}, is the last of {len(values)}: the last "
        f"quarter brought {late / gained:.0%} of what the training gained.",
        level="note" if annealed else None,
        where=f"{history.source}: {column.name}",
        evidence={"validations": len(values), "gained": gained, "gained_in_last_quarter": late,
                  "learning_rate_at_its_end": annealed},
        remedy="Train longer before you compare this figure with another.",
    )  # fmt: skip


@rule("TM615", "overfitted", "warning")
def overfitted(
    history: History, column: Column, *, best_is_kept: bool = False
) -> Iterator[Finding]:
    """The validation got worse for long while the training loss went on falling.

    Why it matters:
        The last weights are then worse than earlier ones, and the driving project's test ran on the
        last ones. The time after the best epoch bought nothing.

    How it decides:
        By the column that chose the best weights (a held-out score, else a held-out loss), and by
        the held-out losses: the best value lies before the last quarter of at least six
        validations, five or more followed, their last third is worse than the best by more than
        3 %, and those after the best get worse with certainty (Mann-Kendall, 5 %). Where the
        weights of the best validation are known to be the ones that were kept and tested, it is a
        note. So it is where a loss rises by less than 10 %, and where the score that chose the
        weights went on rising (Mann-Kendall, 5 %): then the masks got no worse, but the
        probabilities behind them became too sure.

    False alarms:
        A validation part of few images moves by chance: the test for a trend keeps that to 5 % of
        the trainings whose best came early.

    How to mend:
        Keep the best weights and stop early (`trainer.patience`), augment more, or regularise
        (`optimizer.weight_decay`, `model.dropout`).
    """
    found = _turned(history, column, note=best_is_kept)
    if found is None and column.is_score:
        losses = [loss for loss in history.losses(held_out=True) if loss.finite]
        turned = (
            _turned(history, loss, note=best_is_kept, beside=column if rising else None)
            for loss in losses
            for rising in [_rises_after(column, loss)]
        )
        found = next((one for one in turned if one is not None), None)
    if found is not None:
        yield found


def _rises_after(score: Column, loss: Column) -> bool:
    """Whether a score has risen since the best of a loss."""
    best = loss.places[loss.values.index(min(loss.finite))]
    pairs = zip(score.places, score.values, strict=True)
    after = [v for place, v in pairs if place >= best and math.isfinite(v)]
    # The first few rows still rise where the curve levels off.
    return trend(after[len(after) // 3 :]) >= 1.645


def _turned(
    history: History, column: Column, *, note: bool, beside: Column | None = None
) -> Finding | None:
    """What a column says that got worse for long after its best.

    Args:
        history: of the training.
        column: a score or a loss.
        note: whether nothing was lost by it.
        beside: the score that rose all the same, if it did.
    """
    values = _upwards(column)
    if len(values) < 6:
        return None
    place = values.index(max(values))
    after = values[place + 1 :]
    if len(after) < max(5, round(0.25 * len(values))):
        return None
    third = after[-max(1, len(after) // 3) :]
    # Of many noisy values the best is a lucky one: its neighbours say how good it was.
    around = values[max(0, place - 1) : place + 2]
    lost = math.fsum(around) / len(around) - math.fsum(third) / len(third)
    scale = abs(max(values))
    certain = trend(after) <= -1.645
    if lost <= _LOST * scale or not certain or not _still_fitting(history, column):
        return None
    worse = "rose" if column.is_loss else "fell"
    note = note or beside is not None or (column.is_loss and lost <= _RISE * scale)
    but = (
        f" {beside.name} went on rising: the masks got no worse, but the probabilities behind them "
        "became too sure."
        if beside is not None
        else ""
    )
    return overfitted.finding(
        f"{column.name} was best at {history.place(column.places[place])} "
        f"({column.finite[place]:.4g}) and {worse} over the {len(after)} validations after it, to "
        f"{column.finite[-1]:.4g}.{but}",
        level="note" if note else None,
        where=f"{history.source}: {column.name}",
        evidence={"best": column.finite[place], "best_row": column.places[place],
                  "validations_after": len(after), "lost": lost},
        remedy="Test the weights of the best validation, and stop earlier or augment more.",
    )  # fmt: skip


def _upwards(column: Column) -> list[float]:
    """The values with the sign that makes more better."""
    sign = -1.0 if column.is_loss else 1.0
    return [sign * value for value in column.finite]


def _annealed(history: History) -> bool:
    rates = history.rates
    return (
        rates is not None
        and len(rates.finite) > 1
        and rates.finite[-1] < _ANNEALED * max(rates.finite)
    )


def _still_fitting(history: History, column: Column) -> bool:
    """Whether the training loss fell after the best validation; true where there is none."""
    losses = history.losses(held_out=False)
    if not losses:
        return True
    best = max(zip(_upwards(column), column.places, strict=True))[1]
    for loss in losses:
        pairs = list(zip(loss.places, loss.values, strict=True))
        before = [v for place, v in pairs if place <= best and math.isfinite(v)][-3:]
        after = [v for place, v in pairs if place > best and math.isfinite(v)][-3:]
        if before and after and sum(after) / len(after) < sum(before) / len(before):
            return True
    return False


RULES: tuple[Rule, ...] = (not_finished, overfitted)
