from collections.abc import Callable

import pytest
from torch import Tensor, nn


@pytest.fixture
def settle() -> Callable[[nn.Module, Tensor], nn.Module]:
    """Gives batch norms the statistics of some images, then turns to evaluation mode.

    With the statistics of a new network, 0 and 1, features fade from layer to layer, and a test
    would not see what the deep ones do.
    """

    def apply(model: nn.Module, images: Tensor) -> nn.Module:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.train()(images)
        return model.eval()

    return apply
