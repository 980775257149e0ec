"""The moving average of the weights, which is what is validated and kept."""

import copy

import torch
from torch import Tensor, nn

from truemask.models.segmenter import Segmenter
from truemask.training.sharding import local


class WeightAverage(nn.Module):
    """An exponential moving average of a model's weights, its batch-norm statistics included.

    The decay after n steps is min(cap, (1 + n) / (10 + n)), as in TensorFlow's
    `ExponentialMovingAverage`, so that the random start is forgotten and short trainings profit
    too.

    Args:
        model: it is copied.
        cap: the largest decay.
    """

    def __init__(self, model: Segmenter, *, cap: float) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.cap = cap

    @torch.no_grad()
    def update(self, model: Segmenter, *, step: int) -> None:
        """Take in the weights after `step` optimiser steps."""
        weight = 1 - min(self.cap, (1 + step) / (10 + step))
        averages, values = [], []
        for average, value in zip(_tensors(self.model), _tensors(model), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, weight)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [local(tensor.detach()) for tensor in (*model.parameters(), *model.buffers())]
