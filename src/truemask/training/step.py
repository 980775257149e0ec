"""One optimiser step: forward, loss, backward, clipping, update, average.

Nothing in it waits for the device: losses and skipped steps are added up there, and read when a row
of the history is written.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from truemask.data.collate import Batch
from truemask.data.randomness import address_seed
from truemask.models.segmenter import Segmenter
from truemask.training.averaging import WeightAverage
from truemask.training.memory_order import MemoryOrder
from truemask.training.processes import Place
from truemask.training.schedules import Progress, Schedule
from truemask.training.sharding import WholeCopy, gather, load_model, load_optimizer, shard
from truemask.training.synchronized import synchronize
from truemask.whole_batch import Whole, mass_of, share_of

Precision = Literal["bf16", 16, 32]

Sections = Callable[[str], AbstractContextManager[Any]]
"""Given the name of a part of the step, a context that may time it."""


def _untimed(name: str) -> AbstractContextManager[Any]:
    return nullcontext()


def parameter_groups(
    model: nn.Module, *, decay: Literal["weights", "all"] = "weights"
) -> list[dict[str, Any]]:
    """Weights, which decay, and biases and normalisations, which do not; or all in one group."""
    if decay == "all":
        return [{"params": [p for p in model.parameters() if p.requires_grad]}]
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": weights}]
    return [*groups, {"params": others, "weight_decay": 0.0}] if others else groups


class OptimizerStep:
    """Changes a model's weights by the loss of the batches of one step.

    The loss is that of all batches of the step and of all processes as one: each pixel counts the
    same, wherever it lies (`truemask.whole_batch`).

    Args:
        fabric: the device, and how processes share their gradients.
        place: which process this is.
        model: with fresh weights, on the CPU.
        loss: of logits and class ids.
        make_optimizer: from parameter groups.
        schedule: from progress to a factor on the learning rate.
        precision: of the forward pass; weights are float32.
        average: largest decay of the moving average of the weights, or `None`.
        gradient_clip: largest norm of the gradient, or `None`.
        decay: which parameters weight decay shrinks.
        compile: whether PyTorch compiles the network; "reduce-overhead" uses CUDA graphs.
        seed: of dropout.
    """

    def __init__(
        self,
        *,
        fabric: Fabric,
        place: Place,
        model: Segmenter,
        loss: nn.Module,
        make_optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        schedule: Schedule,
        precision: Precision,
        average: float | None,
        gradient_clip: float | None,
        decay: Literal["weights", "all"] = "weights",
        compile: bool | Literal["reduce-overhead"] = False,
        seed: int,
    ) -> None:
        self.fabric = fabric
        self.place = place
        self.device = fabric.device
        self.averaged = None if average is None else WeightAverage(model, cap=average)
        if self.averaged is not None:
            self.averaged.to(self.device)
        self.whole: WholeCopy | None = None
        if isinstance(fabric.strategy, ModelParallelStrategy):
            self.whole = WholeCopy(model)
            if self.averaged is not None:
                shard(self.averaged.model, fabric.strategy.device_mesh)
        if place.processes > 1:
            synchronize(model, place=place, device=self.device)
        self.model = model.to(self.device)
        if compile:
            mode = "reduce-overhead" if compile == "reduce-overhead" else "default"
            self.model.network.compile(mode=mode)
        self.network = fabric.setup_module(self.model)
        self.loss = loss.to(self.device)
        groups = parameter_groups(self.model, decay=decay)
        self.memory_order = MemoryOrder(groups, enabled=self.device.type == "cpu")
        self.optimizer = make_optimizer(self.memory_order.groups)
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.schedule = schedule
        self.gradient_clip = gradient_clip
        self.seed = seed
        self.dtype = {"bf16": torch.bfloat16, 16: torch.float16, 32: None}[precision]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == 16)
        self.section: Sections = _untimed
        self.value = torch.zeros((), device=self.device)
        self.begin_row()
        self.skipped_in_a_row = torch.zeros((), dtype=torch.int64, device=self.device)

    @property
    def kept(self) -> Segmenter:
        """The model that is validated, saved and tested.

        Where the weights are sharded it is put together, once a step: ask in all processes.
        """
        model = self.model if self.averaged is None else self.averaged.model
        return model if self.whole is None else self.whole.of(model)

    def begin_row(self) -> None:
        """Start the sums of a row of the history; they stay on the device until it is written."""
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.skipped = torch.zeros((), dtype=torch.int64, device=self.device)

    def read_sums(self) -> tuple[float, int]:
        """The losses that were added up over all processes, and the skipped steps; then anew."""
        found = float(self.place.add_up(self.loss_sum)), int(self.skipped)
        self.begin_row()
        return found

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the forward pass."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def take(self, batches: Sequence[Batch], progress: Progress) -> None:
        """One step.

        Args:
            batches: this process's share of the step's samples.
            progress: how far the training is.
        """
        self._forget_whole()
        factor = self.schedule(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        torch.manual_seed(address_seed(self.seed, progress.step, self.place.rank))
        with self.section("transfer"):
            batches = [batch.to(self.device) for batch in batches]
        self.value = self._gradients(batches)
        with self.section("optimizer"):
            self._update(self.value)
        if self.averaged is not None:
            with self.section("average"):
                self.averaged.update(self.model, step=progress.step + 1)

    def _gradients(self, batches: Sequence[Batch]) -> Tensor:
        """Forward and backward through all batches; gives the loss of this process's share."""
        whole = self._whole(batches)
        value = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches):
            last = number + 1 == len(batches)
            with self.fabric.no_backward_sync(self.network, enabled=not last):
                with self.section("forward"), self.autocast():
                    logits = self.network(batch.images)
                with self.section("loss"):
                    loss = (
                        self.loss(logits, batch.masks)
                        if whole is None
                        else share_of(self.loss, logits, batch.masks, whole=whole)
                    )
                with self.section("backward"):
                    # Processes' gradients are averaged, but the shares of a loss add up.
                    self.fabric.backward(self.scaler.scale(loss * self.place.processes))
            value += loss.detach()
        return value

    def _whole(self, batches: Sequence[Batch]) -> Whole | None:
        """What all batches of all processes count; `None` where there is just this one."""
        if len(batches) == 1 and self.place.processes == 1:
            return None
        masses = [mass_of(self.loss, batch.masks) for batch in batches]
        return Whole(self.place.add_up(torch.stack(masses).sum(0)), self.place.total)

    def _update(self, value: Tensor) -> None:
        """Change the weights, unless a gradient is not finite: then nothing but the count."""
        self.memory_order.lend_gradients()
        self.scaler.unscale_(self.optimizer)
        finite = torch.isfinite(self._clip())
        self.skipped += ~finite
        self.skipped_in_a_row.add_(1).mul_(~finite)
        self.loss_sum += torch.where(finite, value, 0.0)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # looks for itself
            self.scaler.update()
        elif self.device.type == "cuda" and self.optimizer.defaults.get("fused"):
            # The fused kernel looks at this flag, so that nobody has to wait for it here.
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.step()
        elif bool(finite):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.memory_order.zero_grad()

    def _clip(self) -> Tensor:
        """Bring the gradient to the largest norm; gives the norm it had."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if self.gradient_clip is not None:
            norm = nn.utils.clip_grad_norm_(parameters, self.gradient_clip)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def _forget_whole(self) -> None:
        if self.whole is not None:
            self.whole.forget()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, alike for every number of processes.

        Ask in all processes; sharded weights are whole in the main one.
        """
        state = self._state()
        return state if self.whole is None else gather(state, keep=self.place.is_main)

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.memory_order.plain(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self._forget_whole()
        load_model(self.model, state["model"])
        if self.averaged is not None:
            load_model(self.averaged, state["average"])
        load_optimizer(self.optimizer, self.memory_order.viewed(state["optimizer"]))
        self.scaler.load_state_dict(state["scaler"])
