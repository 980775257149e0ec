"""Find silent bugs in a segmentation experiment, Truemask's or not: each a function of its own.

    from truemask import checks

    assert not checks.check_loss(my_loss, num_classes=5, ignore_index=255)

Each gives a list of `Finding`: what is wrong, what shows it, how to mend it. What a function needs
is imported when it is first asked for; none of them needs Lightning or Hydra.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from truemask.checks.difference import check_difference as check_difference
    from truemask.checks.finding import Finding as Finding
    from truemask.checks.fresh import check_fresh as check_fresh
    from truemask.checks.guards import Guard as Guard
    from truemask.checks.inputs import check_input as check_input
    from truemask.checks.inputs import describe_images as describe_images
    from truemask.checks.losses import check_loss as check_loss
    from truemask.checks.models import check_model as check_model
    from truemask.checks.naming import check_name as check_name
    from truemask.checks.run import check_history as check_history
    from truemask.checks.run import check_run as check_run
    from truemask.checks.tested import check_tested as check_tested
    from truemask.checks.weighting import check_weights as check_weights

_PLACES = {
    "Finding": "finding",
    "check_dataset": "data",
    "check_difference": "difference",
    "check_fresh": "fresh",
    "check_history": "run",
    "check_input": "inputs",
    "describe_images": "inputs",
    "Guard": "guards",
    "check_loader": "loaders",
    "check_loss": "losses",
    "check_masks": "masks",
    "check_metric": "metrics",
    "check_model": "models",
    "check_name": "naming",
    "check_run": "run",
    "check_tested": "tested",
    "check_weights": "weighting",
}
"""What this folder exports -> the file that has it."""

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
