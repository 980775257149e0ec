"""Model files for other programs: ONNX, `torch.export`, int8, a Triton model repository.

A file takes pixels as decoders give them, of any size, and gives class ids: scaling, padding and
the choice of the class are inside, the names of the classes stand in its metadata. It is written
only when it agrees with the model on real images.
"""

import importlib
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from truemask import __version__
from truemask.bundle import Bundle
from truemask.errors import JobFailed, UsageError
from truemask.files import atomic_path, make_folder, write_text
from truemask.inference.parity import LabelledImage, Other, Parity, compare_predictions
from truemask.inference.portable import Portable
from truemask.models.segmenter import evaluating
from truemask.untrusted import one_line

Format = Literal["onnx", "torch", "triton"]

METADATA = "truemask"
"""The key of the file's metadata under which all that a reader must know stands as JSON."""

MOST_DIFFERING = 1e-5
"""Share of the pixels that may get another class, of a file that computes in float32.

One pixel may in any case: of few pixels, one where two classes are equally likely says nothing.
"""

MOST_LOST = 0.01
"""IoU that a file in int8 may lose."""

_OPSET = 21
"""Of ONNX: from ONNX Runtime 1.18 of May 2024, Triton 24.06 and TensorRT 10 on."""

_EXAMPLE = (2, 75, 93)
"""Batch, height and width of the images that are traced: no multiple of a stride, none is 1."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written.

    Attributes:
        path: the file; of Triton the folder of the model.
        format: of it.
        int8: whether its convolutions compute in 8 bits.
        parity: how far it agrees with the model.
        bytes: its size.
    """

    path: Path
    format: Format
    int8: bool
    parity: Parity
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "path": str(self.path),
            "format": self.format,
            "int8": self.int8,
            "bytes": self.bytes,
            "parity": self.parity.to_json(),
        }


def export(
    bundle: Bundle,
    path: Path,
    *,
    images: Sequence[LabelledImage],
    calibration: Sequence[LabelledImage] = (),
    format: Format = "onnx",
    int8: bool = False,
    probabilities: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Exported:
    """Write a model file, after it was held against the model.

    The input `image` is (N, H, W, C), of the dtype and range of `bundle.model.images`. The outputs
    are `mask`, (N, H, W) class ids, `confidence`, (N,) the mean probability of the predicted class,
    and on demand `probabilities`, (N, K, H, W). A program of `torch.export` takes images that are
    larger than the network's stride only.

    Args:
        bundle: the model, on the CPU.
        path: the file, replaced where it is an earlier export; for Triton the model's folder.
        images: on which it must agree with the model.
        calibration: for int8, the images whose values choose the ranges; none of `images`.
        format: of the file.
        int8: whether the convolutions compute in 8 bits (ONNX and Triton).
        probabilities: whether the probability of each class is an output too.
        progress: called with what is done, how much of it, and of how much.

    Raises:
        JobFailed: the file does not agree with the model; nothing is written.
        UsageError: a package is missing, or the path cannot be written.
    """
    if int8 and format == "torch":
        raise UsageError("--int8 is for ONNX and Triton: leave it out, or take --format onnx")
    _refuse_to_overwrite(path, format)

    def compared(name: str) -> Callable[[int], None] | None:
        return None if progress is None else lambda done: progress(name, done, len(images))

    module = Portable(bundle.model, temperature=bundle.temperature, probabilities=probabilities)
    with evaluating(module), tempfile.TemporaryDirectory(prefix="truemask-export-") as folder:
        made = Path(folder) / ("model.pt2" if format == "torch" else "model.onnx")
        if format == "torch":
            program = _trace(bundle, module)
            torch.export.save(program, made)
            parity = compare_predictions(
                bundle, _torch_runner(made), images, progress=compared("Comparing")
            )
            _require_agreement(parity, int8=False, path=path)
            extra = {METADATA: json.dumps(_description(bundle, module, parity, int8=False))}
            torch.export.save(program, made, extra_files=extra)
        else:
            _write_onnx(bundle, module, made)
            if int8:
                from truemask.inference.quantization import quantize

                quantize(made, calibration, progress=progress)
            parity = compare_predictions(
                bundle, onnx_runner(made), images, progress=compared("Comparing")
            )
            _require_agreement(parity, int8=int8, path=path)
            _describe_onnx(made, _description(bundle, module, parity, int8=int8))
        size = made.stat().st_size
        if format == "triton":
            _write_triton(made, path, bundle, probabilities=probabilities)
        else:
            make_folder(path.parent)
            with atomic_path(path) as temporary:
                temporary.write_bytes(made.read_bytes())
    return Exported(path=path, format=format, int8=int8, parity=parity, bytes=size)


def onnx_runner(path: Path, *, threads: int = 0) -> Other:
    """A function that predicts with an ONNX file.

    Args:
        path: the file.
        threads: of the CPU; 0 takes all.

    Raises:
        UsageError: `onnxruntime` is not installed. What it returns raises JobFailed where the file
            cannot compute an image.
    """
    runtime = _import("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(image: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        try:
            ids: np.ndarray[Any, np.dtype[np.uint8]] = session.run(["mask"], {"image": image})[0]
        except Exception as error:  # ONNX Runtime has a kind for each of its codes
            height, width = image.shape[1:3]
            raise JobFailed(
                f"ONNX Runtime cannot compute an image of {height} x {width} by this network's "
                f"file: {one_line(error)[:300]}"
            ) from error
        return ids

    return run


def read_metadata(path: Path) -> Mapping[str, Any] | None:
    """What an ONNX file that was written here says of itself; `None` of any other file."""
    onnx = _import("onnx")
    try:
        model = onnx.load(str(path), load_external_data=False)
        found = {entry.key: entry.value for entry in model.metadata_props}
        value = json.loads(found[METADATA])
    except Exception:  # anything may stand in a file of any kind
        return None
    return value if isinstance(value, Mapping) else None


def _example(bundle: Bundle) -> torch.Tensor:
    spec = bundle.model.images
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(*_EXAMPLE, spec.channels, generator=generator)
    return (values * (spec.high - spec.low) + spec.low).to(spec.torch_dtype)


def _trace(bundle: Bundle, module: nn.Module) -> torch.export.ExportedProgram:
    dynamic = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    with _quiet():
        return torch.export.export(module, (_example(bundle),), dynamic_shapes=(dynamic,))


def _write_onnx(bundle: Bundle, module: Portable, path: Path) -> None:
    _import("onnxscript")
    names = ("batch", "height", "width")
    dynamic = {axis: torch.export.Dim(name) for axis, name in enumerate(names)}
    outputs = ["mask", "confidence", *(["probabilities"] if module.probabilities else [])]
    with _quiet():
        program = torch.onnx.export(
            module,
            (_example(bundle),),
            dynamo=True,
            opset_version=_OPSET,
            dynamic_shapes=(dynamic,),
            input_names=["image"],
            output_names=outputs,
            verbose=False,
        )
        assert program is not None
        program.save(str(path))


def _torch_runner(path: Path) -> Other:
    module = torch.export.load(path).module()

    def run(image: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        with torch.inference_mode():
            ids: np.ndarray[Any, np.dtype[np.uint8]] = module(torch.from_numpy(image))[0].numpy()
        return ids

    return run


def _require_agreement(parity: Parity, *, int8: bool, path: Path) -> None:
    if int8 and parity.lost > MOST_LOST:
        raise JobFailed(
            f"{path} is not written: in int8 the model loses {parity.lost:.4f} IoU on "
            f"{parity.images} images ({parity.model_iou:.4f} to {parity.iou:.4f}), more than "
            f"{MOST_LOST}: export it without --int8"
        )
    if not int8 and parity.differing > max(1, MOST_DIFFERING * parity.pixels):
        raise JobFailed(
            f"{path} is not written: {parity.differing:,} of {parity.pixels:,} pixels of "
            f"{parity.images} images get another class than from the model, more than 1 in "
            f"{round(1 / MOST_DIFFERING):,}"
        )


def _description(bundle: Bundle, module: Portable, parity: Parity, *, int8: bool) -> dict[str, Any]:
    return {
        "truemask": __version__,
        "labels": bundle.labels.to_json(),
        "images": bundle.model.images.to_json(),
        "int8": int8,
        "probabilities": module.probabilities,
        "parity": parity.to_json(),
        "info": bundle.info,
    }


def _describe_onnx(path: Path, description: Mapping[str, Any]) -> None:
    onnx = _import("onnx")
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {METADATA: json.dumps(description)})
    model.producer_name = METADATA
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _write_triton(made: Path, folder: Path, bundle: Bundle, *, probabilities: bool) -> None:
    """`folder/1/model.onnx` and `folder/config.pbtxt`, as Triton's repositories are laid out."""
    version = make_folder(folder / "1")
    with atomic_path(version / "model.onnx") as temporary:
        temporary.write_bytes(made.read_bytes())
    spec = bundle.model.images
    kind = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}[spec.dtype]
    # Triton gives out no output that is not listed.
    classes = bundle.labels.num_classes
    dims = f"dims: [-1, {classes}, -1, -1]"
    shares = (
        f',\n  {{ name: "probabilities", data_type: TYPE_FP32, {dims} }}' if probabilities else ""
    )
    write_text(
        folder / "config.pbtxt",
        "# Written by truemask export.\n"
        f'name: "{folder.name}"\n'
        'platform: "onnxruntime_onnx"\n'
        "max_batch_size: 0\n"
        f'input [{{ name: "image", data_type: {kind}, dims: [-1, -1, -1, {spec.channels}] }}]\n'
        "output [\n"
        '  { name: "mask", data_type: TYPE_UINT8, dims: [-1, -1, -1] },\n'
        f'  {{ name: "confidence", data_type: TYPE_FP32, dims: [-1] }}{shares}\n'
        "]\n",
    )


def _refuse_to_overwrite(path: Path, format: Format) -> None:
    if not path.exists():
        return
    if format == "triton":
        ours = not path.is_file() and (
            not any(path.iterdir()) or (path / "1" / "model.onnx").is_file()
        )
    elif format == "onnx":
        ours = path.is_file() and read_metadata(path) is not None
    else:
        ours = path.is_file() and path.read_bytes()[:2] == b"PK"
    if not ours:
        raise UsageError(f"{path} exists, and is no earlier export: choose another --out")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporters say of themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"export needs {name}: pip install 'truemask[onnx]'") from error
