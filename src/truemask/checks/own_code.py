"""Checks of code that is not Truemask's, named on the command line: losses, models, data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from truemask import checks
from truemask.checks.batches import read_batch
from truemask.checks.failures import in_short
from truemask.checks.named import load, made
from truemask.checks.outcome import Outcome
from truemask.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class OwnCode:
    """What is to be checked, each as `module:function`, and what must be known of it.

    Attributes:
        loss: a loss, or what makes one without arguments.
        metric: likewise.
        model: likewise.
        dataset: a dataset, parts of one by name, a loader, or what makes one without arguments.
        num_classes: K.
        ignore_index: id of pixels that do not count; `None` says that there is none.
        weight: what the loss's class weights are meant to be.
        target: how the loss takes its target.
        from_logits: whether the loss is given logits.
        channels: of images that are made up for a model where no dataset is given.
        size: height and width of them.
    """

    loss: str | None = None
    metric: str | None = None
    model: str | None = None
    dataset: str | None = None
    num_classes: int | None = None
    ignore_index: int | None = 255
    weight: Sequence[float] | None = None
    target: str = "index"
    from_logits: bool = True
    channels: int = 3
    size: tuple[int, int] = (128, 128)

    @property
    def named(self) -> dict[str, str]:
        """Option -> name, of what is to be checked."""
        given = {key: getattr(self, key) for key in ("dataset", "loss", "metric", "model")}
        return {f"--{key}": name for key, name in given.items() if name is not None}

    @property
    def classes(self) -> int:
        """K.

        Raises:
            UsageError: it was not given.
        """
        if self.num_classes is None:
            raise UsageError(f"{' and '.join(self.named)}: give --num-classes too")
        return self.num_classes


def check_own_code(own: OwnCode) -> Outcome:
    """Everything that was named.

    Raises:
        UsageError: a name leads nowhere, or a thing cannot be called as it must be.
    """
    outcome = Outcome()
    things = {
        option[2:]: made(load(name, option=option), option=option)
        for option, name in own.named.items()
    }
    classes: dict[str, Any] = {"num_classes": own.classes, "ignore_index": own.ignore_index}
    loss = things.get("loss")
    if "dataset" in things:
        _check_data(things["dataset"], own, outcome)
    if loss is not None:
        options: dict[str, Any] = {
            "weight": own.weight,
            "from_logits": own.from_logits,
            "target": own.target,
        }
        outcome.run(f"the loss {own.loss}", lambda: checks.check_loss(loss, **classes, **options))
    if "metric" in things:
        metric = things["metric"]
        outcome.run(f"the metric {own.metric}", lambda: checks.check_metric(metric, **classes))
    if "model" in things:
        model, batch = things["model"], _example(things.get("dataset"), own)
        ignored = {} if own.ignore_index is None else {"ignore_index": own.ignore_index}
        outcome.run(
            f"the model {own.model} on {tuple(_images(batch).shape)}",
            lambda: checks.check_model(model, batch, num_classes=own.classes, loss=loss, **ignored),
        )
        if "dataset" not in things:
            outcome.skip("the model on real images", "give --dataset module:function")
    return outcome


def _check_data(data: Any, own: OwnCode, outcome: Outcome) -> None:
    ignored = {} if own.ignore_index is None else {"ignore_index": own.ignore_index}
    if isinstance(data, torch.utils.data.DataLoader):
        outcome.run(
            f"batches of {own.dataset}",
            lambda: checks.check_loader(data, num_classes=own.classes, **ignored),
        )
        if read_batch(next(iter(data))).masks is None:
            outcome.skip(f"masks of {own.dataset}", "its batches hold images alone")
        return
    outcome.run(
        f"images and masks of {own.dataset}",
        lambda: checks.check_dataset(data, num_classes=own.classes, **ignored),
    )


def _example(data: Any, own: OwnCode) -> Any:
    """A batch for the model: of the dataset, or made up."""
    if data is None:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(2, own.channels, *own.size, generator=generator)
    if isinstance(data, torch.utils.data.DataLoader):
        return next(iter(data))
    part = next(iter(data.values())) if isinstance(data, Mapping) else data
    try:
        return torch.utils.data.default_collate([part[i] for i in range(min(2, len(part)))])
    except Exception as error:  # Other people's code may raise anything.
        raise UsageError(
            f"{own.dataset}: two samples do not make a batch ({in_short(error)}): give a "
            "DataLoader as --dataset to check the model with"
        ) from error


def _images(batch: Any) -> Any:
    """What has a shape, for words about it."""
    if hasattr(batch, "shape"):
        return batch
    return next((t for t in _flat(batch) if hasattr(t, "shape")), torch.empty(0))


def _flat(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else [value]
