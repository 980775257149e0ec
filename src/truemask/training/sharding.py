"""Weights that are divided over the processes (FSDP), and brought together where they are read.

Each process keeps its share of every weight, of its gradient, of what the optimiser knows about it
and of its moving average. A part of the network is put together while it computes, and is forgotten
after it. PyTorch calls this `fully_shard`, or FSDP2.

Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel" (2023,
https://arxiv.org/abs/2304.11277).
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from truemask.errors import UsageError
from truemask.models.segmenter import Segmenter

_GROUPS = 16
"""A part of the network with this share of all weights is put together by itself."""


def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Divide a model's weights over the processes, in place; buffers stay whole.

    Args:
        model: alike in all processes.
        mesh: of all processes, with a dimension "data_parallel".

    Raises:
        UsageError: it has a weight that cannot be divided.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            raise UsageError(
                f"trainer.strategy=fsdp cannot divide the weight {name}, which is a single number: "
                "give it the shape [1], or trainer.strategy=ddp"
            )
        parameter.data = parameter.data.contiguous()  # it divides no other
    model.register_forward_hook(_no_view)
    least = sum(p.numel() for p in model.parameters()) / _GROUPS
    _shard_parts(model, mesh["data_parallel"], least)
    fully_shard(model, mesh=mesh["data_parallel"])
    return model


def _no_view(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    """A view's hooks, by which PyTorch knows of the way back, are lost if it is written to."""
    return output.clone() if output._is_view() else output


def _shard_parts(module: nn.Module, mesh: DeviceMesh, least: float) -> None:
    """Make groups from the leaves up, each of the weights that no deeper one has."""
    for child in module.children():
        _shard_parts(child, mesh, least)
        left = sum(p.numel() for p in child.parameters() if not isinstance(p, DTensor))
        # A list is never called, and what is not called is not put together.
        if left >= least and not isinstance(child, nn.ModuleList | nn.ModuleDict):
            fully_shard(child, mesh=mesh)


def local(tensor: Tensor) -> Tensor:
    """This process's share of a tensor, as a view; the tensor itself where it is not divided."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gather(value: Any, *, keep: bool = True) -> Any:
    """A nested mapping or list with whole tensors on the CPU; call it in all processes.

    Args:
        value: as `state_dict` gives it.
        keep: whether this process needs them; else `None` stands in their place.
    """
    if isinstance(value, DTensor):
        whole = _whole(value)
        return whole.cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: gather(item, keep=keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [gather(item, keep=keep) for item in value]
    return value


def load_model(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`load_state_dict` of whole tensors into a model, whether it is divided or not.

    Raises:
        KeyError: a tensor is missing or unknown.
    """
    own = model.state_dict()
    if own.keys() != state.keys():
        raise KeyError(next(iter(own.keys() ^ state.keys())))
    placed = {name: _divided(state[name], tensor) for name, tensor in own.items()}
    model.load_state_dict(placed)


def load_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """The same for an optimiser.

    What it holds in the shape of a weight is divided as that weight is, and lies in memory alike:
    fused optimisers take it for granted, and say nothing where it is not so.
    """
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    placed = {
        number: {key: _like(value, weights[number]) for key, value in known.items()}
        for number, known in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": placed})


def _like(value: Any, weight: Tensor) -> Any:
    if not isinstance(value, Tensor) or value.shape != weight.shape:
        return value
    if isinstance(weight, DTensor):
        return _divided(value, weight)
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _divided(value: Tensor, like: Tensor) -> Tensor:
    """This process's share of a whole tensor that every process has."""
    if not isinstance(like, DTensor):
        return value
    value = value.to(like.device).contiguous()
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


class WholeCopy:
    """A whole model in every process, made from a divided one of the same structure.

    Args:
        model: before it was divided; its weights are not kept.
    """

    def __init__(self, model: Segmenter) -> None:
        self._shell = copy.deepcopy(model)
        for module in self._shell.modules():
            for name, parameter in module.named_parameters(recurse=False):
                empty = torch.empty_like(parameter, device="meta")
                setattr(module, name, nn.Parameter(empty, requires_grad=False))
        self._made: Segmenter | None = None

    def of(self, model: nn.Module) -> Segmenter:
        """The whole copy; call it in all processes, unless nothing was forgotten since."""
        if self._made is None:
            self._made = copy.deepcopy(self._shell)
            like = self._made.state_dict()
            state = {
                # In the memory order that the model had.
                name: torch.empty_like(like[name], device=tensor.device).copy_(_whole(tensor))
                for name, tensor in model.state_dict().items()
            }
            self._made.load_state_dict(state, assign=True)
            self._made.to(next(model.parameters()).device)  # buffers that are not saved
        return self._made

    def forget(self) -> None:
        """The divided model has changed."""
        self._made = None


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor
