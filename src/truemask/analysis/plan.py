"""A plan: from the training part and the machine to an experiment with a reason beside each choice.

Isensee et al., nnU-Net (2021, https://doi.org/10.1038/s41592-020-01008-z), show how much of a good
result is the plan, and that rules on a few figures of the dataset make one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml

from truemask.analysis.plan_choice import Choice
from truemask.analysis.plan_facts import Facts
from truemask.analysis.plan_file import to_yaml
from truemask.analysis.plan_machine import Machine, look_at_machine, measure_step
from truemask.analysis.plan_network import (
    DEFAULT_WIDTH,
    WIDTHS,
    batch_choice,
    image_budget,
    level_count,
    loss_choice,
    needed_images,
    width_choice,
)
from truemask.analysis.plan_sizes import crop_size, focus_choice, scale_choice, side_choices
from truemask.analysis.plan_survey import look_at
from truemask.analysis.plan_symmetry import augmentation_choices
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import counted
from truemask.training.opening import Opened, open_parts, require_trainable
from truemask.training.settings import DataSettings, TrainerSettings, parse_time
from truemask.training.setup import settings

_UNET = "truemask.models.unet.UNet"

EPOCHS = 100
"""Of a training to which neither time nor epochs are given."""

_STRIDE = 32
"""Of the U-Net with five levels at half resolution, which the rules begin with."""

_SPECIFIC = ("dataset", "split", "labels", "subset", "exclude", "ignore_regions")
"""Settings of `data` that say what the data is; a plan takes them as they are."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was chosen, and from what.

    Attributes:
        choices: in the order of the file.
        facts: of the training part.
        machine: what there is to train on.
        time: that the training is given, as `trainer.max_time`; `None` where it is open.
        text: of the experiment's file.
        notes: on the data, one sentence each.
        warnings: likewise, of what is wrong with it for a training.
        opened: the data, for a training that follows.
    """

    choices: tuple[Choice, ...]
    facts: Facts
    machine: Machine
    time: str | None
    text: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    opened: Opened

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "choices": [asdict(choice) for choice in self.choices],
            "facts": self.facts.to_json(),
            "machine": self.machine.to_json(),
            "time": self.time,
            "yaml": self.text,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }

    @property
    def experiment(self) -> dict[str, Any]:
        """What the file holds."""
        content: dict[str, Any] = yaml.safe_load(self.text)
        return content


def make_plan(
    config: Mapping[str, Any],
    *,
    words: Sequence[str] = (),
    measured: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Look at the data and the machine, and choose.

    Without `trainer.max_time` no time is measured, so that the same data, precision and memory give
    the same plan.

    Args:
        config: the whole configuration without a plan; its data, time and accelerator count.
        words: of the user's, which stand: nothing is chosen that they say.
        measured: whether the time of a step may be measured where a time is given.
        progress: called with (done, total) while samples are looked at.

    Raises:
        UsageError: a setting or the data cannot be used, or a training could not use the data.
    """
    data: DataSettings = settings(DataSettings, config["data"], key="data")
    trainer: TrainerSettings = settings(TrainerSettings, config["trainer"], key="trainer")
    opened = Opened()
    # At their own size, as a survey counts them.
    parts, _ = open_parts(
        replace(data, resize=None, evaluation_size="native"),
        seed=config["seed"],
        training=True,
        fetch=True,
        opened=opened,
        progress=progress,
    )
    require_trainable(parts)
    facts, warnings = look_at(parts, progress=progress)
    if data.resize is not None:
        facts = facts.resized(data.resize[0], data.resize[1])
    seconds = None if trainer.max_time is None else parse_time(trainer.max_time)
    keys = {word.partition("=")[0].lstrip("+~") for word in words}
    own_model = any(key.split(".")[0] == "model" for key in keys)
    machine = look_at_machine(trainer.accelerator)
    if not own_model:
        machine = _measured(
            machine,
            parts["train"],
            facts,
            accelerator=trainer.accelerator,
            seconds=seconds if measured else None,
        )
    choices = choose(
        facts,
        machine,
        seconds=seconds if measured else None,
        budget=_budget(trainer, facts),
        own_model=own_model,
    )
    choices = [choice for choice in choices if not _said(choice.key, keys)]
    if trainer.max_time is not None:
        reason = "the time given; the learning rate falls to 0 at its end"
        choices.append(Choice(key="trainer.max_time", value=trainer.max_time, reason=reason))
    return Plan(
        choices=tuple(choices),
        facts=facts,
        machine=machine,
        time=None if trainer.max_time is None else str(trainer.max_time),
        text=to_yaml(
            choices,
            heading=_heading(facts, machine, trainer.max_time),
            warnings=warnings,
            data={key: config["data"].get(key) for key in _SPECIFIC},
        ),
        notes=parts.notes,
        warnings=tuple(warnings),
        opened=opened,
    )


def choose(
    facts: Facts,
    machine: Machine,
    *,
    seconds: float | None = None,
    budget: float | None = None,
    own_model: bool = False,
) -> list[Choice]:
    """All choices, a pure function of what is known.

    Args:
        facts: of the training part.
        machine: with what a step costs.
        seconds: that the training is given.
        budget: images that it goes through where no time is given; `None` for those of 100 epochs.
        own_model: whether the user has chosen the network.
    """
    sides = side_choices(facts, stride=_STRIDE)
    choices = list(sides)
    crop = sides[0].value or [facts.height, facts.width]
    if sides[0].key == "data.crop" and sides[0].value is not None:
        choices.append(scale_choice(facts, crop))
        choices += [focus] if (focus := focus_choice(facts, crop)) is not None else []
    choices += augmentation_choices(facts)
    images = EPOCHS * facts.images if budget is None else budget
    if own_model:
        choices += [batch_choice(facts, machine, budget=images)] if seconds is None else []
    else:
        resized = sides[0].key == "data.resize"
        shrink = crop[0] / facts.height if resized else 1.0
        levels, why = level_count(facts, crop, downscale=2, shrink=shrink)
        width, widths = width_choice(machine, seconds=seconds, levels=levels, why_levels=why)
        if seconds is not None:
            images = image_budget(machine, width, seconds)
        choices += [batch_choice(facts, machine, budget=images, width=width), widths]
    choices.append(loss_choice(facts))
    return choices


def _budget(trainer: TrainerSettings, facts: Facts) -> float:
    """Images that a training goes through to which no time is given."""
    if trainer.max_steps is not None:
        return math.inf
    return (trainer.max_epochs or EPOCHS) * facts.images


def _measured(
    machine: Machine,
    train: SegmentationDataset,
    facts: Facts,
    *,
    accelerator: str,
    seconds: float | None,
) -> Machine:
    """With what an image costs; a wider network is only looked at where it may be worth it."""
    crop = crop_size(facts, stride=_STRIDE)
    for width in WIDTHS if seconds is not None else (DEFAULT_WIDTH,):
        cost = measure_step(
            [width * 2**level for level in range(5)],
            downscale=2,
            channels=facts.channels,
            logits=train.labels.num_logits,
            crop=(crop[0], crop[1]),
            accelerator=accelerator,
            timed=seconds is not None,
        )
        machine = replace(machine, costs={**machine.costs, width: cost})
        if seconds is not None and image_budget(machine, width, seconds) < needed_images(width):
            break
    return machine


def _said(key: str, keys: set[str]) -> bool:
    """Whether the user's words say this setting, or one that excludes it."""
    sides = {"data.crop", "data.resize", "data.evaluation_size"}
    if key in sides and keys & {"data.crop", "data.resize"}:
        return True
    if key in ("data.scale", "data.focus") and "data.resize" in keys:
        return True  # they are of crops
    group = key.split(".")[0]
    if group in ("model", "loss") and any(word.split(".")[0] == group for word in keys):
        return True
    return any(key == word or key.startswith(f"{word}.") for word in keys - {"data"})


def _heading(facts: Facts, machine: Machine, time: str | int | None) -> str:
    where = "a GPU" if machine.device == "cuda" else counted(machine.cores, "core")
    given = "no time given" if time is None else f"{time} of time"
    return (
        f"A plan for {counted(facts.images, 'training image')} of {facts.height} x {facts.width} "
        f"with {len(facts.classes)} classes, on {where}, {given}; {facts.counted:,} of them "
        f"{'was' if facts.counted == 1 else 'were'} counted. "
        "Edit it as you like: truemask train FOLDER experiment=THIS_FILE.yaml"
    )
