"""Guards: checks that run beside anybody's training loop, and never wait for the device.

    guard = Guard(num_classes=5, optimizer=optimizer)
    for images, masks in loader:
        logits = model(images)
        loss = criterion(logits, masks)
        ...
        for finding in guard.step(loss, logits, masks):
            print(finding)
    findings = guard.finish()

Losses are kept where they are, and read once in `every` steps: they are copied to the host while
the device computes, and looked at when the copy is there, `every` steps later on a GPU.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from truemask.checks.finding import Finding
from truemask.checks.fresh import started_with_state
from truemask.checks.learning import collapsed, never_moved, non_finite, stillness

_LOOKS = 10
"""Looks at predictions, one after the other, that must see one class."""
_VALIDATIONS = 5
"""Validations in a row that must."""
_BLOCKS = 20
"""Means of `every` losses by which a training is judged that does not learn."""
_SIDE = 32
"""Rows and columns of a prediction that are looked at, at most."""
_FEWEST_PIXELS = 100
_COLLAPSED = 0.02


class Guard:
    """Watches a training for NaN, a loss that never moves, and a model that predicts one class.

    Args:
        num_classes: K; without it predictions are not looked at. A single logit channel is the
            probability of class 1 by its sigmoid.
        ignore_index: id of pixels that do not count.
        every: steps between looks.
        optimizer: of the training, before its first step; leave it out where a run is resumed.
    """

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        ignore_index: int = 255,
        every: int = 50,
        optimizer: Optimizer | None = None,
    ) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.every = every
        self.steps = 0
        self.findings: list[Finding] = []
        self._losses: list[Tensor] = []  # on a device, where reading them would wait
        self._values: list[float] = []
        self._counts: Tensor | None = None
        self._pending: list[_Copy] = []
        self._blocks: list[float] = []
        self._span = (math.inf, -math.inf)
        self._seen = 0
        self._one_class: list[tuple[int, int, int]] = []
        self._validations: list[tuple[int, int, int]] = []
        self._told: set[tuple[str, str]] = set()
        self._news: list[Finding] = started_with_state(optimizer) if optimizer is not None else []

    def step(
        self, loss: Tensor | float, logits: Tensor | None = None, masks: Tensor | None = None
    ) -> list[Finding]:
        """Take in one step of the training; gives what is new.

        Args:
            loss: a scalar, on any device; it is not changed.
            logits: (B, L, H, W), in any step in which they are at hand.
            masks: (B, H, W) or (B, 1, H, W) class ids.
        """
        self.steps += 1
        if isinstance(loss, Tensor) and loss.device.type != "cpu":
            # A copy, as a captured graph of CUDA writes its next loss into the same memory.
            self._losses.append(loss.detach().clone())
        else:
            self._values.append(loss.item() if isinstance(loss, Tensor) else float(loss))
        if self.steps % self.every == 0:
            if self.num_classes is not None and logits is not None and masks is not None:
                self._counts = self._count(logits, masks)
            self._read()
        return self._take_news()

    def validated(self, matrix: Any) -> list[Finding]:
        """Take in the counts of a validation; gives what is new.

        Args:
            matrix: (K, K) pixels, rows are the truth, columns the prediction.
        """
        counts = torch.as_tensor(matrix)
        self._validations.append(_one_class(counts.sum(1).tolist(), counts.sum(0).tolist()))
        self._validations = self._validations[-_VALIDATIONS:]
        if len(self._validations) == _VALIDATIONS:
            self._judge_classes(self._validations, "validations in a row")
        return self._take_news()

    def finish(self) -> list[Finding]:
        """Look at what is left, and give everything that was found.

        A collapse that the model has recovered from by then is a note.
        """
        self._read()
        for copy in self._pending:
            copy.wait()
        self._look()
        self._take_news()
        if self.recovered:
            self.findings = [_past(f) if f.code == collapsed.code else f for f in self.findings]
        return self.findings

    @property
    def recovered(self) -> bool:
        """Whether the last look saw more than one class predicted; not where there was none."""
        last = [kept[-1] for kept in (self._one_class, self._validations) if kept]
        return bool(last) and all(found >= _COLLAPSED * true for _, true, found in last)

    @torch.no_grad()
    def _count(self, logits: Tensor, masks: Tensor) -> Tensor:
        """(2, K) true and predicted pixels of some rows and columns."""
        assert self.num_classes is not None
        down = max(1, logits.shape[-2] // _SIDE)
        across = max(1, logits.shape[-1] // _SIDE)
        seen = logits.detach()[..., ::down, ::across]
        ids = (seen[:, 0] > 0).long() if seen.shape[1] == 1 else seen.argmax(1)
        truth = masks.detach().reshape(-1, *masks.shape[-2:])[..., ::down, ::across].long()
        ids = ids.reshape(-1, *ids.shape[-2:])
        if truth.shape != ids.shape:
            return torch.zeros(2, self.num_classes + 1, dtype=torch.int64, device=ids.device)
        # Ignored pixels fall into one more bin: to leave them out would wait for their number.
        valid = (truth >= 0) & (truth < self.num_classes) & (truth != self.ignore_index)
        rest = torch.full_like(truth, self.num_classes)
        found = []
        for values in (truth, ids):
            bins = torch.where(valid, values, rest).flatten()
            counts = torch.zeros(self.num_classes + 1, dtype=torch.int64, device=ids.device)
            found.append(counts.scatter_add_(0, bins, torch.ones_like(bins)))
        return torch.stack(found)

    def _read(self) -> None:
        """Send what was kept to the host, and look at what has arrived."""
        if not self._losses and not self._values:
            return
        self._look()
        losses = torch.stack(self._losses).flatten() if self._losses else self._values
        self._pending.append(_Copy(losses, self._counts))
        self._losses, self._values, self._counts = [], [], None
        self._look()

    def _look(self) -> None:
        while self._pending and self._pending[0].arrived:
            copy = self._pending.pop(0)
            losses, counts = copy.read()
            self._take_losses(losses)
            if counts is not None:
                truth, found = counts
                self._one_class.append(_one_class(truth, found))
                self._one_class = self._one_class[-_LOOKS:]
                if len(self._one_class) == _LOOKS:
                    self._judge_classes(self._one_class, f"looks, one in {self.every} steps")

    def _take_losses(self, losses: list[float]) -> None:
        bad = [place for place, loss in enumerate(losses) if not math.isfinite(loss)]
        if bad:
            self._tell_non_finite(len(bad), len(losses), self._seen + bad[0] + 1)
        finite = [loss for loss in losses if math.isfinite(loss)]
        self._seen += len(losses)
        if not finite:
            return
        self._span = (min(self._span[0], *finite), max(self._span[1], *finite))
        self._blocks.append(math.fsum(finite) / len(finite))
        if self._span[0] == self._span[1] and self._seen >= 2 * self.every:
            self._tell_still(f"is {self._span[0]:.6g}, the same to the last digit,")
        elif len(self._blocks) == _BLOCKS and (how := stillness(self._blocks)):
            self._tell_still(how)

    def _tell_non_finite(self, bad: int, of: int, first: int) -> None:
        # One step that a scaler or a loop skips does no harm; from three on they do not pass.
        level = "error" if bad >= min(3, of) else "warning"
        self._tell(
            non_finite.finding(
                f"{bad} of {of} losses are not finite numbers, the first at step {first}.",
                level=level,  # type: ignore[arg-type]
                where="training loss",
                evidence={"not_finite": bad, "of": of, "first_step": first},
                remedy="Lower the learning rate, clip the gradient, and run check_loss.",
            )
        )

    def _tell_still(self, how: str) -> None:
        self._tell(
            never_moved.finding(
                f"The training loss {how} over {self._seen} steps.",
                where="training loss",
                evidence={"steps": self._seen, "first": self._blocks[0], "last": self._blocks[-1]},
                remedy="See that a gradient reaches the parameters (check_loss, check_model), and "
                "that the optimiser holds them at a learning rate above 0.",
            )
        )

    def _judge_classes(self, looks: Iterable[tuple[int, int, int]], what: str) -> None:
        classes, true, found = zip(*looks, strict=True)
        if (
            len(set(classes)) > 1
            or sum(true) < _FEWEST_PIXELS
            or any(f >= _COLLAPSED * t for t, f in zip(true, found, strict=True) if t)
        ):
            return
        self._tell(
            collapsed.finding(
                f"{len(classes)} {what} saw class {classes[0]} predicted nearly everywhere: of the "
                f"others {sum(true):,} pixels are true and {sum(found):,} predicted.",
                where="predictions",
                evidence={"class": classes[0], "true_pixels_of_others": sum(true),
                          "predicted_pixels_of_others": sum(found), "step": self.steps},
                remedy="Weigh the rare classes in the loss (pos_weight, weight, Dice), and see "
                "TM112.",
            )
        )  # fmt: skip

    def _tell(self, finding: Finding) -> None:
        """Keep a finding, once for each rule and level."""
        key = (finding.code, finding.level)
        if key not in self._told:
            self._told.add(key)
            self._news.append(finding)

    def _take_news(self) -> list[Finding]:
        news, self._news = self._news, []
        self.findings += news
        return news


def _one_class(truth: list[int], found: list[int]) -> tuple[int, int, int]:
    """The class that is predicted most, and the true and predicted pixels of all others."""
    most = max(range(len(found)), key=found.__getitem__)
    return most, sum(truth) - truth[most], sum(found) - found[most]


def _past(finding: Finding) -> Finding:
    message = f"{finding.message} It recovered later."
    return replace(finding, level="note", message=message)


class _Copy:
    """Losses and counts on their way from a device to the host."""

    def __init__(self, losses: Tensor | list[float], counts: Tensor | None) -> None:
        self.event: torch.cuda.Event | None = None
        self.losses = _to_host(losses) if isinstance(losses, Tensor) else losses
        self.counts = None if counts is None else _to_host(counts)
        if isinstance(losses, Tensor) and losses.is_cuda:
            self.event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.event.record()

    @property
    def arrived(self) -> bool:
        return self.event is None or bool(self.event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        if self.event is not None:
            self.event.synchronize()

    def read(self) -> tuple[list[float], list[list[int]] | None]:
        """The losses, and the true and predicted pixels of each class."""
        losses = self.losses.tolist() if isinstance(self.losses, Tensor) else self.losses
        return losses, None if self.counts is None else self.counts[:, :-1].tolist()


def _to_host(values: Tensor) -> Tensor:
    if not values.is_cuda:
        return values.cpu()
    copied = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return copied.copy_(values, non_blocking=True)
