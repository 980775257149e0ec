"""Holding evaluations against each other."""

import numpy as np

from truemask.per_image import Evaluation


def assert_same(first: Evaluation, second: Evaluation) -> None:
    """Every name, attribute, label, count and loss is equal."""
    assert first.names == second.names
    assert first.attributes == second.attributes
    assert first.labels == second.labels
    np.testing.assert_array_equal(first.matrices, second.matrices)
    np.testing.assert_array_equal(first.losses, second.losses)
