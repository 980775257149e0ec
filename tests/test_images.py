import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from truemask.errors import UsageError
from truemask.images import RGB, ImageSpec, resize_image

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
positive = st.floats(min_value=1e-6, max_value=1e6)


@st.composite
def specs(draw):
    channels = draw(st.integers(1, 5))
    low = draw(st.floats(-1e6, 1e6))
    return ImageSpec(
        channels=channels,
        dtype=draw(st.sampled_from(["uint8", "float32"])),
        low=low,
        high=low + draw(st.floats(1.0, 1e6)),
        mean=tuple(draw(st.lists(finite, min_size=channels, max_size=channels))),
        std=tuple(draw(st.lists(positive, min_size=channels, max_size=channels))),
    )


@given(specs())
def test_json_and_back_is_the_same(spec):
    text = json.dumps(spec.to_json(), allow_nan=False)
    assert ImageSpec.from_json(json.loads(text)) == spec


def test_one_value_stands_for_all_channels():
    assert ImageSpec(channels=3, mean=(0.5,), std=(0.2,)) == ImageSpec(
        channels=3, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)
    )
    assert ImageSpec(channels=1, mean=(0.5,)).mean == (0.5,)


def test_numbers_of_numpy_and_lists_become_plain():
    spec = ImageSpec(channels=2, mean=list(np.float32([0.5, 0.25])), std=[1, 2], low=0, high=1)
    assert spec == ImageSpec(channels=2, mean=(0.5, 0.25), std=(1.0, 2.0), high=1.0)
    assert {type(value) for value in (*spec.mean, *spec.std, spec.low, spec.high)} == {float}


def test_the_dtype_is_that_of_torch():
    assert ImageSpec(dtype="uint8").torch_dtype == torch.uint8
    assert ImageSpec(dtype="float32").torch_dtype == torch.float32
    assert (RGB.channels, RGB.torch_dtype, RGB.low, RGB.high) == (3, torch.uint8, 0, 255)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 0}, "images.channels must be an integer from 1, got 0"),
        ({"channels": -1}, "got -1"),
        ({"channels": 3.0}, "got 3.0"),
        ({"channels": "3"}, "got '3'"),
        ({"channels": 2, "mean": (0.1, 0.2, 0.3)}, "images.mean has 3 values for 2 channels"),
        ({"std": (1.0, 2.0)}, "images.std has 2 values for 3 channels"),
        ({"mean": ()}, "images.mean has 0 values"),
        ({"dtype": "float16"}, "images.dtype is 'float16'; allowed are uint8, float32"),
        ({"low": 255.0}, r"images.high \(255.0\) must be greater than images.low \(255.0\)"),
        ({"high": math.inf}, "images.high must hold finite numbers, got inf"),
        ({"low": math.nan}, "images.low must hold finite numbers, got nan"),
        ({"low": "1", "high": "2"}, "images.low must hold finite numbers, got '1'"),
        ({"mean": (math.nan,)}, "images.mean must hold finite numbers"),
        ({"mean": "123"}, "images.mean must hold finite numbers, got '1'"),
        ({"std": (0.0,)}, "images.std must be positive"),
        ({"std": (1.0, -1.0, 1.0)}, "images.std must be positive"),
    ],
)
def test_what_cannot_be_an_image_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        ImageSpec(**change)
    with pytest.raises(UsageError, match=message):
        ImageSpec.from_json(RGB.to_json() | {"mean": [0.5], "std": [0.5]} | change)


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        "text",
        {"mean": [0.0]},
        {"mean": 0.0, "std": [1.0]},
        {"mean": [10**400], "std": [1.0]},
        {"mean": [0.0], "std": [1.0], "dtype": []},
        {"mean": [0.0], "std": [1.0], "unknown": 1},
    ],
)
def test_json_that_describes_no_images_is_refused(value):
    with pytest.raises(UsageError, match="not a description of images"):
        ImageSpec.from_json(value)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1), (3, 2)])
@pytest.mark.parametrize("shape", [(2, 1), (1, 2), (5, 7)])
def test_an_image_is_resized_to_any_size(channels, shape, size):
    image = torch.full((channels, *shape), 77, dtype=torch.uint8)
    resized = resize_image(image, size)
    assert resized.shape == (channels, *size)
    assert resized.dtype == torch.uint8
    assert set(resized.flatten().tolist()) == {77}
