"""Batch norm over the samples of all processes, so that several give the gradients of one."""

from typing import Any

import torch
from torch import Tensor, nn

from truemask.training.processes import Place


def synchronize(model: nn.Module, *, place: Place, device: torch.device) -> None:
    """Make every batch norm of a model count the samples of all processes; weights stay.

    On a GPU this is PyTorch's own `SyncBatchNorm`; it has none for the CPU.
    """
    for name, child in list(model.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            if device.type == "cuda":
                made = nn.SyncBatchNorm.convert_sync_batchnorm(child)  # type: ignore[no-untyped-call]
            else:
                made = _BatchNorm.of(child, place)
            setattr(model, name, made)
        else:
            synchronize(child, place=place, device=device)


class _BatchNorm(nn.BatchNorm2d):
    """A batch norm whose statistics are of all processes' samples, also where their numbers differ.

    With m samples of mean mu and variance v a process, the whole has mean sum(m mu) / sum(m); this
    adds up m, the sum and the sum of squares about the running mean, which keeps digits.
    """

    place: Place

    @classmethod
    def of(cls, norm: nn.BatchNorm2d, place: Place) -> "_BatchNorm":
        """With the weights and statistics of another."""
        made = cls(
            norm.num_features,
            eps=norm.eps,
            momentum=norm.momentum,
            affine=norm.affine,
            track_running_stats=norm.track_running_stats,
        )
        made.__dict__.update(norm.__dict__)
        made.place = place
        return made

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.BatchNorm2d`; in evaluation mode the same."""
        if not self.training:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        centre = self._centre(values)
        shifted = values - centre[:, None, None]
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums = torch.cat((shifted.sum((0, 2, 3)), shifted.square().sum((0, 2, 3)), count))
        sums = self.place.total(sums.double())
        first, second, number = sums[: len(centre)], sums[len(centre) : -1], sums[-1]
        mean = first / number
        variance = (second / number - mean.square()).clamp_min(0)
        self._track((mean + centre).detach(), (variance * number / (number - 1)).detach())
        scale = torch.rsqrt(variance + self.eps).to(values.dtype)
        normal = (shifted - mean.to(values.dtype)[:, None, None]) * scale[:, None, None]
        if self.affine:
            normal = normal * self.weight[:, None, None] + self.bias[:, None, None]
        return normal.to(input.dtype)

    def _centre(self, values: Tensor) -> Tensor:
        if self.running_mean is None:
            return torch.zeros(values.shape[1], device=values.device)
        return self.running_mean.detach().clone()

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor: Any = self.momentum
        if factor is None:
            factor = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(variance.to(self.running_var.dtype), factor)
