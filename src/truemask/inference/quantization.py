"""Convolutions in 8 bits, by ONNX Runtime's static quantization."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from truemask.errors import UsageError
from truemask.inference.parity import LabelledImage


def quantize(
    path: Path,
    images: Sequence[LabelledImage],
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Let the convolutions of an ONNX file compute in int8, in place.

    Weights have a scale for each output channel, activations one each, from the least and the
    greatest value that they take on the images (ONNX Runtime's QDQ format). The last convolution,
    which gives the logits, stays in float32: it costs little, and its errors are the mask's.

    Args:
        path: the file.
        images: on which the ranges are found.
        progress: see `export`.

    Raises:
        UsageError: there is no image.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not images:
        raise UsageError("int8 needs images on which the ranges of its values are found")
    model = onnx.load(str(path))
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    prepared = path.with_name("prepared.onnx")
    with _without_warnings():
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            _Reader(images, progress),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv", "ConvTranspose", "MaxPool", "Concat"],
            nodes_to_exclude=convolutions[-1:],
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
    prepared.unlink()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """ONNX Runtime gives its advice through the root logger, which is everybody's."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


class _Reader:
    """The images one by one, as ONNX Runtime asks for them."""

    def __init__(
        self,
        images: Sequence[LabelledImage],
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self._items = self._read(images, progress)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """The next image, or `None` after the last."""
        return next(self._items, None)

    @staticmethod
    def _read(
        images: Sequence[LabelledImage], progress: Callable[[str, int, int], None] | None
    ) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        for count, item in enumerate(images, start=1):
            yield {"image": item.image.permute(1, 2, 0).contiguous().numpy()[None]}
            if progress is not None:
                progress("Finding ranges", count, len(images))
