"""Randomness by address: a draw is a function of what it is for, never of what was drawn before.

So the number of workers, processes and restarts changes nothing, and resuming needs no hidden
state.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def address_seed(*address: int) -> int:
    """A 63-bit seed, a function of non-negative integers such as (seed, epoch, index)."""
    return int(np.random.SeedSequence(address).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def seeded(*address: int) -> Iterator[None]:
    """Start PyTorch's CPU generator from the address; after the block it is as it was."""
    state = torch.get_rng_state()
    torch.manual_seed(address_seed(*address))
    try:
        yield
    finally:
        torch.set_rng_state(state)


def epoch_order(length: int, *, seed: int, epoch: int, purpose: int = 0) -> list[int]:
    """A shuffled order of `range(length)`, a function of the seed, the epoch and the purpose."""
    address = (seed, epoch, purpose) if purpose else (seed, epoch)
    generator = np.random.default_rng(np.random.SeedSequence(address))
    return [int(index) for index in generator.permutation(length)]
