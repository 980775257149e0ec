"""Running out of memory, said in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from truemask.errors import UsageError

# PyTorch has a class for a GPU's exhaustion only; on the CPU its words are all there is.
_SIGNS = ("not enough memory", "can't allocate memory", "could not create a memory object")


@contextmanager
def explain_memory(*, where: str, remedy: str) -> Iterator[None]:
    """Turn exhausted memory into a `UsageError`: "out of memory `where`: `remedy`"."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not short and not any(sign in str(error) for sign in _SIGNS):
            raise
        raise UsageError(f"out of memory {where}: {remedy}") from error
