"""Numbers and names as people write them."""

import math

import pytest

from truemask.report import formats


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (formats.number, 0.58749, "0.587"),
        (formats.number, None, "–"),
        (formats.number, math.nan, "–"),
        (formats.number, "<b>", "<b>"),
        (formats.percent, 0.3141, "31.4 %"),
        (formats.percent, 0.0001, "< 0.1 %"),
        (formats.percent, 0, "0.0 %"),
        (formats.count, 12345, "12,345"),
        (formats.quantity, 7_812_345, "7.81 M"),
        (formats.quantity, 4_211, "4.21 k"),
        (formats.quantity, 93, "93"),
        (formats.duration, 45.2, "45 s"),
        (formats.duration, 1201, "20 min"),
        (formats.duration, 7500, "2 h 5 min"),
        (formats.device, "cpu", "CPU"),
        (formats.device, "cuda:0", "GPU"),
        (formats.device, "NVIDIA H200", "NVIDIA H200"),
        (formats.model, "truemask.models.unet.UNet", "U-Net"),
        (formats.model, "mine.Net", "Net"),
        (formats.compact, 1.2e-05, "1.2e-05"),
        (formats.part, "train", "Training"),
        (formats.part, "night", "night"),
    ],
)
def test_format(write, value, text):
    assert write(value) == text


def test_a_configured_object_reads_as_its_call():
    loss = {
        "_target_": "truemask.losses.Sum",
        "losses": [
            {"_target_": "truemask.losses.CrossEntropy", "weight": [1.0, 2.0]},
            {"_target_": "truemask.losses.Dice", "smooth": 0.5},
        ],
    }
    expected = "Sum(losses=[CrossEntropy(weight=[2 values]), Dice(smooth=0.5)])"
    assert formats.construction(loss) == expected
