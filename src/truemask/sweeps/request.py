"""What was asked for: the words of `truemask train -m`, parted.

    hydra/launcher=local|slurm|ray   where the jobs run
    hydra.launcher.KEY=VALUE         its settings
    sweep.KEY=VALUE                  how the values are chosen, see `SweepSettings`

All others are of the trainings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from truemask.build import check_settings
from truemask.errors import UsageError
from truemask.sweeps.launchers import SENSITIVE
from truemask.sweeps.space import parse

_LAUNCHER = "hydra/launcher"
_LAUNCHER_SETTING = "hydra.launcher."
_SWEEP_SETTING = "sweep."
_TRIALS = 20


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """How the values are chosen.

    Attributes:
        method: "grid" trains all combinations; "random" draws; "optuna" learns from what the
            trainings before reached where the next one may be better.
        trials: trainings of "random" and "optuna".
        seed: of the draws.
        prune: whether "optuna" ends trainings early that lag behind.
    """

    method: Literal["grid", "random", "optuna"] = "grid"
    trials: int = _TRIALS
    seed: int = 0
    prune: bool = True

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UsageError(f"sweep.trials must be at least 1, got {self.trials}")
        if self.seed < 0:
            raise UsageError(f"sweep.seed must be 0 or more, got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A sweep as it was asked for.

    Attributes:
        words: of the trainings, those that vary among them.
        sweep: settings, as they were given.
        launcher: its name; `None` where none was given.
        launcher_settings: as they were given.
    """

    words: list[str] = field(default_factory=list)
    sweep: dict[str, Any] = field(default_factory=dict)
    launcher: str | None = None
    launcher_settings: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> SweepSettings:
        """How the values are chosen, checked.

        Raises:
            UsageError: there is no such setting, or it cannot have this value.
        """
        check_settings(SweepSettings, self.sweep, key="sweep")
        settings = SweepSettings(**self.sweep)
        if settings.method == "grid" and set(self.sweep) - {"method"}:
            name = min(set(self.sweep) - {"method"})
            raise UsageError(
                f"sweep.{name} says nothing to a grid, which has all combinations: give "
                "sweep.method=random or sweep.method=optuna as well"
            )
        return settings


def read_request(words: Sequence[str]) -> Request:
    """Part the words.

    Raises:
        UsageError: a word cannot be read, or says something of Hydra that Truemask does not take.
    """
    rest: list[str] = []
    sweep: dict[str, Any] = {}
    launcher: str | None = None
    launcher_settings: dict[str, Any] = {}
    for word in words:
        key = word.partition("=")[0].lstrip("+")
        if key == _LAUNCHER:
            launcher = str(_single(word))
        elif key.startswith(_LAUNCHER_SETTING):
            launcher_settings[key.removeprefix(_LAUNCHER_SETTING)] = _single(word)
        elif key.startswith(_SWEEP_SETTING):
            sweep[key.removeprefix(_SWEEP_SETTING)] = _single(word)
        elif key.startswith("hydra"):
            raise UsageError(
                f"{word!r}: of Hydra's own words Truemask takes hydra/launcher=NAME and "
                "hydra.launcher.KEY=VALUE; how values are chosen is sweep.method=NAME"
            )
        elif key == "sweep":
            raise UsageError(f"{word!r}: write sweep.method=grid, random or optuna")
        else:
            rest.append(word)
    return Request(words=rest, sweep=sweep, launcher=launcher, launcher_settings=launcher_settings)


def _single(word: str) -> Any:
    parsed = parse(word)
    if parsed.is_sweep_override() or parsed.is_delete() or "=" not in word:
        raise UsageError(f"{word!r}: this one needs a single value")
    return parsed.value()


def resumed(before: Request, words: Sequence[str]) -> Request:
    """The request with which a sweep goes on.

    Args:
        before: that of the sweep.
        words: another launcher, settings of it, or more trials.

    Raises:
        UsageError: a word would make it another sweep.
    """
    new = read_request(words)
    if new.words or set(new.sweep) - {"trials"}:
        word = new.words[0] if new.words else f"sweep.{min(set(new.sweep) - {'trials'})}"
        raise UsageError(
            f"{word!r} would make it another sweep: on resuming only hydra/launcher, "
            "hydra.launcher.KEY and sweep.trials may change"
        )
    same = new.launcher in (None, before.launcher)
    for key in SENSITIVE.get(before.launcher or "", ()):
        if same and key in before.launcher_settings and key not in new.launcher_settings:
            value = before.launcher_settings[key]
            raise UsageError(
                f"the sweep was made with hydra.launcher.{key}={value!r}, which is not taken from "
                "a file that anybody may have written: give the word again"
            )
    return Request(
        words=before.words,
        sweep={**before.sweep, **new.sweep},
        launcher=before.launcher if same else new.launcher,
        launcher_settings={
            **(before.launcher_settings if same else {}),
            **new.launcher_settings,
        },
    )


def request_from_json(value: Mapping[str, Any]) -> Request:
    """The request of a `sweep.json`."""
    return Request(
        words=[str(word) for word in value["words"]],
        sweep=dict(value["sweep"]),
        launcher=value["launcher"],
        launcher_settings=dict(value["launcher_settings"]),
    )
