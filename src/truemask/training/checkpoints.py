"""Checkpoints that are whole or not there, and that run no code when they are read."""

import io
import warnings
from pathlib import Path
from typing import Any

import torch

from truemask.errors import UsageError
from truemask.files import atomic_path


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values atomically."""
    # By way of memory: torch's own writer does not tell a full disk from other errors.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_checkpoint(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a checkpoint.

    Raises:
        UsageError: it is damaged, or holds anything but tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged file is said below
            content: Any = torch.load(path, map_location=map_location, weights_only=True)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # torch raises many kinds for a damaged or hostile file
        raise UsageError(
            f"{path} cannot be read safely: it is damaged, or holds more than tensors"
        ) from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is no checkpoint: it holds no mapping")
    return content
