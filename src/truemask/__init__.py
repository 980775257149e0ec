"""Train, check, explain and ship semantic-segmentation U-Nets, with numbers you can trust."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from truemask.inference.loaded import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """What needs PyTorch is imported at its first use, so that the command line starts fast."""
    if name == "load":
        from truemask.inference.loaded import load

        return load
    raise AttributeError(f"module 'truemask' has no attribute {name!r}")
