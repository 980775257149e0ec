"""What computes masks: one small interface over PyTorch and ONNX Runtime.

An engine takes a batch of images of one size and gives class ids. Both forms say the same of an
image, alone or in a batch, as `predict_image` does: PyTorch computes one image at a time in
float32, and a file of ONNX Runtime has been held against the model on real images when it was
written (`export.py`). Only bfloat16 trades exactness for speed, and has to be asked for.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8

from truemask.bundle import Bundle
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.inference.export import read_metadata
from truemask.inference.lowered import Precision, lower
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter, evaluating

LARGE = 1 << 21
"""Pixels of a batch above which ONNX Runtime gives its memory back."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchPrediction:
    """What an engine says of a batch.

    Attributes:
        ids: the most probable class of each pixel.
        confidence: of each image the mean over pixels of the probability of that class; `None`
            unless asked for.
        probabilities: of each class; `None` unless asked for.
    """

    ids: UInt8[np.ndarray, "N H W"]
    confidence: Float32[np.ndarray, " N"] | None = None
    probabilities: Float32[np.ndarray, "N K H W"] | None = None


class Engine(Protocol):
    """A model that is ready to compute; safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """What computes and in which precision, such as "ONNX Runtime fp32"."""

    @property
    def labels(self) -> LabelMap:
        """Names and colours of the classes."""

    @property
    def images(self) -> ImageSpec:
        """Channels, dtype and range of the images that it takes."""

    def predict(
        self,
        images: Shaped[np.ndarray, "N C H W"],
        *,
        confidence: bool = True,
        probabilities: bool = False,
    ) -> BatchPrediction:
        """The masks of a batch.

        Args:
            images: of one size, and of the dtype and range of `self.images` (`uint8` for photos).
            confidence: whether to give it; it costs a softmax.
            probabilities: whether to give them.

        Raises:
            UsageError: the images are of another kind than the model takes.
        """


@dataclass(frozen=True, eq=False)
class TorchEngine:
    """PyTorch, on the device where the model is.

    Attributes:
        bundle: the model.
        precision: "fp32" gives exactly what `predict_image` gives. "bf16" computes the convolutions
            in bfloat16, a whole batch at once.
    """

    bundle: Bundle
    precision: Precision = "fp32"
    _model: Segmenter = field(init=False, repr=False)

    def __post_init__(self) -> None:
        model = self.bundle.model
        object.__setattr__(self, "_model", lower(model) if self.precision == "bf16" else model)

    @property
    def name(self) -> str:
        """What computes and in which precision."""
        device = self.bundle.model.mean.device.type
        return f"PyTorch {self.precision}" + ("" if device == "cpu" else f" on {device}")

    @property
    def labels(self) -> LabelMap:
        """Names and colours of the classes."""
        return self.bundle.labels

    @property
    def images(self) -> ImageSpec:
        """The images that it takes."""
        return self.bundle.model.images

    @torch.inference_mode()
    def predict(
        self,
        images: Shaped[np.ndarray, "N C H W"],
        *,
        confidence: bool = True,
        probabilities: bool = False,
    ) -> BatchPrediction:
        """The masks of a batch; see `Engine`."""
        whole = torch.from_numpy(require_images(images, self.images))
        # The sums of a convolution are rounded in another order in another batch.
        step = len(whole) if self.precision == "bf16" else 1
        parts = [
            self._predict(part, confidence=confidence, probabilities=probabilities)
            for part in torch.split(whole, step)
        ]
        return BatchPrediction(
            ids=np.concatenate([part.ids for part in parts]),
            confidence=_joined([part.confidence for part in parts]),
            probabilities=_joined([part.probabilities for part in parts]),
        )

    def _predict(
        self, images: Shaped[torch.Tensor, "N C H W"], *, confidence: bool, probabilities: bool
    ) -> BatchPrediction:
        model = self._model
        device = model.mean.device
        with evaluating(model), torch.autocast(device.type, enabled=False):
            logits = model(images.to(device))
            ids = self.labels.decode(logits)
            sure = shares = None
            if confidence or probabilities:
                shares = self.bundle.probabilities(logits)
                sure = shares.amax(1).mean((1, 2), dtype=torch.float64).float().cpu().numpy()
        return BatchPrediction(
            ids=ids.cpu().numpy(),
            confidence=sure if confidence else None,
            probabilities=shares.cpu().numpy() if shares is not None and probabilities else None,
        )


class OnnxEngine:
    """ONNX Runtime on the CPU, with a file that `export` wrote.

    Args:
        path: the file.
        threads: of the CPU that one call may use; 0 takes one for each core.

    Raises:
        UsageError: `onnxruntime` is not installed, or the file was not written by `export`.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UsageError("this needs onnxruntime: pip install 'truemask[onnx]'") from error
        said = read_metadata(path)
        if said is None:
            raise UsageError(
                f"{path} is no ONNX file that `truemask export` wrote: make one from the run"
            )
        self.labels = LabelMap.from_json(said["labels"])
        self.images = ImageSpec.from_json(dict(said["images"]))
        self.name = f"ONNX Runtime {'int8' if said['int8'] else 'fp32'}"
        self.threads = threads or available_cores()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that wait for work must not take the cores from those that decode the next image.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._how, self._how_large = onnxruntime.RunOptions(), onnxruntime.RunOptions()
        for how in (self._how, self._how_large):
            how.only_execute_path_to_fetches = True
        # Its memory is kept for the next call, which a rare large image should not decide.
        self._how_large.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._outputs = {output.name for output in self._session.get_outputs()}

    def predict(
        self,
        images: Shaped[np.ndarray, "N C H W"],
        *,
        confidence: bool = True,
        probabilities: bool = False,
    ) -> BatchPrediction:
        """The masks of a batch; see `Engine`.

        Raises:
            UsageError: the images are of another kind, or the file was exported without
                probabilities.
        """
        if probabilities and "probabilities" not in self._outputs:
            raise UsageError("the file gives no probabilities: export it with --probabilities")
        images = require_images(images, self.images)
        wanted = {"mask": True, "confidence": confidence, "probabilities": probabilities}
        names = [name for name in wanted if wanted[name]]
        # No copy of what a decoder of images gives, which has the channels last.
        pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        large = pixels.shape[0] * pixels.shape[1] * pixels.shape[2] > LARGE
        how = self._how_large if large else self._how
        values = self._session.run(names, {"image": pixels}, how)
        found: dict[str, Any] = dict(zip(names, values, strict=True))
        return BatchPrediction(
            ids=found["mask"],
            confidence=found.get("confidence"),
            probabilities=found.get("probabilities"),
        )


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_images(
    images: Shaped[np.ndarray, "N C H W"], spec: ImageSpec
) -> Shaped[np.ndarray, "N C H W"]:
    """The images, if they are such as a model takes; ONNX Runtime's own words name no remedy.

    Raises:
        UsageError: another shape, dtype or range.
    """
    if images.ndim != 4 or images.shape[1] != spec.channels or 0 in images.shape:
        raise UsageError(
            f"the model takes images of the shape (N, {spec.channels}, H, W), got {images.shape}"
        )
    if images.dtype != np.dtype(spec.dtype):
        raise UsageError(
            f"the model takes images of dtype {spec.dtype} from {spec.low:g} to {spec.high:g}, "
            f"got {images.dtype}; it scales them itself"
        )
    if spec.dtype != "uint8":
        low, high = float(images.min()), float(images.max())
        if not spec.low <= low <= high <= spec.high:  # NaN fails too
            raise UsageError(
                f"image values reach from {low:g} to {high:g}, but the model takes {spec.low:g} "
                f"to {spec.high:g} and scales them itself"
            )
    return images


def _joined(
    parts: Sequence[Float32[np.ndarray, "n ..."] | None],
) -> Float32[np.ndarray, "N ..."] | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None
