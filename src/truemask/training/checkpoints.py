"""Checkpoints that are whole or not there, and that run no code when they are read."""

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from truemask.errors import UsageError
from truemask.files import atomic_path


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written atomically and read as tensors and plain values only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write beside the target, then rename."""
        # By way of memory: torch's own writer does not tell a full disk from other errors.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_path(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read; `weights_only` is always on, whatever is asked."""
        return read_checkpoint(Path(path), map_location=map_location)


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
