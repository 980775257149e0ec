"""A trained model on disk: `model.json` says what it is, `model.safetensors` holds its weights.

Beside them `inputs.json` says what its training images were like, in figures, by which others are
told from them. That is all that predicting, exporting and serving read. None of these files can
execute anything: the descriptions are plain JSON, the weights are safetensors, and only classes of
a fixed list are called, with plain values that their signatures allow. A bundle that somebody else
made is data, not code.

The description is written once and stays; what changes while training (the weights, and `info`
about them) is one file, so that a crash between two writes cannot mix two states.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

from truemask import __version__
from truemask.errors import UsageError
from truemask.files import atomic_path, make_folder, write_json, write_text
from truemask.images import ImageSpec
from truemask.labels import LabelMap
from truemask.models.described import (
    NETWORKS,
    bounded_construction,
    build_network,
    plain_network,
    self_contained,
    without_initialization,
)
from truemask.models.segmenter import Segmenter
from truemask.untrusted import naming, read_object

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
INPUTS = "inputs.json"
FORMAT = 1

MAX_SIDE = 8192
"""The most pixels a side that a model may bring its images to."""

TEMPERATURES = (0.01, 100.0)
"""The lowest and the highest temperature: beyond these, probabilities say nothing any more."""

# A description has a few KB and a network hundreds of tensors; far beyond that it is an attack.
_MAX_DESCRIPTION_BYTES = 4_000_000
_MAX_INPUTS_BYTES = 4_000_000
_MAX_CHANNELS = 4096
_KEYS = ("format", "truemask", "network", "images", "size", "labels", "temperature")
_DTYPES = {
    torch.float32: "F32",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What the training images were like, as plain values that `inference.doubt` understands."""

    value: dict[str, Any]
    file: Path


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A model and all that is needed to use it.

    Attributes:
        model: on the CPU, in evaluation mode.
        labels: what its classes are.
        network: what the network was built from: `_target_` and the arguments of that class.
        info: what else was saved about these weights, such as the run and the epoch.
        temperature: what the logits are divided by before they become probabilities; 1 where these
            weights were not calibrated. It changes no class id.
        inputs: what its training images were like; `None` where nobody noted it.
    """

    model: Segmenter
    labels: LabelMap
    network: dict[str, Any]
    info: dict[str, Any]
    temperature: float = 1.0
    inputs: Inputs | None = None

    def probabilities(self, logits: Float[Tensor, "B L H W"]) -> Float[Tensor, "B K H W"]:
        """The calibrated probability of each class; sums to 1 over K."""
        if self.temperature != 1.0:
            logits = logits / self.temperature
        return self.labels.probabilities(logits)


def save_bundle(
    folder: Path,
    *,
    model: Segmenter,
    network: Mapping[str, Any],
    labels: LabelMap,
    info: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
) -> None:
    """Write a model into a folder; weights of the same model there are replaced in one step.

    The temperature of the weights before is taken back: it was fitted to those.

    Args:
        folder: made where it is missing.
        model: its weights are saved as contiguous float32, whatever they are in memory.
        network: `_target_` (a dotted name, a user's own class too) and plain values; settings that
            only a training needs are left out (`EncoderUNet.saved_settings`).
        labels: what the model's classes are.
        info: plain values about these weights.
        inputs: plain values about the training images; what the folder says of them stays where it
            is not given.

    Raises:
        UsageError: the network is described by more than plain values, the folder holds another
            model, or it cannot be written.
    """
    description = {
        "format": FORMAT,
        "truemask": __version__,
        "network": self_contained(network, type(model.network)),
        "images": model.images.to_json(),
        "size": None if model.size is None else list(model.size),
        "labels": labels.to_json(),
        "temperature": 1.0,
    }
    metadata = {"info": json.dumps(_without_nan(dict(info)))}
    # The network's alone: the statistics of the images stand in the description.
    state = {name: _saved(tensor) for name, tensor in model.network.state_dict().items()}
    make_folder(folder)
    if (folder / DESCRIPTION).exists():
        written = _read_description(folder)
        if any(written[key] != description[key] for key in ("network", "images", "size", "labels")):
            raise UsageError(f"{folder} holds another model: choose another folder, or delete it")
        if written["temperature"] != 1.0:
            # Before the weights, so that a crash leaves the old ones uncalibrated, which is true.
            write_json(folder / DESCRIPTION, description)
    else:
        write_json(folder / DESCRIPTION, description)
    if inputs is not None:
        text = json.dumps(inputs, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if not (folder / INPUTS).exists() or (folder / INPUTS).read_text("utf-8") != text:
            write_text(folder / INPUTS, text)
    with atomic_path(folder / WEIGHTS) as temporary:
        # Not save_file: its errors do not tell a full disk from others.
        temporary.write_bytes(safetensors.torch.save(state, metadata=metadata))


def save_temperature(folder: Path, temperature: float) -> None:
    """Write the temperature of a bundle's weights, in one step; 1 takes a calibration back.

    Args:
        folder: of the bundle.
        temperature: what its logits shall be divided by.

    Raises:
        UsageError: there is no bundle, it cannot be written, or the temperature is none.
    """
    description = _read_description(folder)
    description["temperature"] = _temperature(temperature)
    write_json(folder / DESCRIPTION, description)


def _temperature(value: Any) -> float:
    low, high = TEMPERATURES
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UsageError(f"temperature is {value!r}, but must be a number from {low:g} to {high:g}")
    return float(value)


def _without_nan(value: Any) -> Any:
    """A deep copy with `None` for NaN and infinity, which JSON has no words for."""
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


def _saved(tensor: Tensor) -> Tensor:
    dtype = _saved_dtype(tensor)
    # A copy, because safetensors refuses tensors that share memory, as those of a tied layer do.
    copy = tensor.detach().to("cpu", dtype, copy=True, memory_format=torch.contiguous_format)
    return copy.contiguous()


def _saved_dtype(tensor: Tensor) -> torch.dtype:
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    if dtype not in _DTYPES:
        raise UsageError(f"a bundle cannot hold tensors of the type {dtype}")
    return dtype


def load_bundle(folder: Path, *, allow: Mapping[str, type[nn.Module]] | None = None) -> Bundle:
    """Read a model; nothing of the folder's content is executed, and no random number is drawn.

    Args:
        folder: where `save_bundle` wrote.
        allow: further classes by their dotted name that the bundle may be built of.

    Raises:
        UsageError: a file is missing or damaged, the network is not of an allowed class, or the
            weights do not fit it (names the tensor).
    """
    description = _read_description(folder)
    with naming(folder / DESCRIPTION):
        labels = LabelMap.from_json(description["labels"])
        images = _images(description["images"])
        network = plain_network(description["network"])
        network = self_contained(network, {**NETWORKS, **(allow or {})}.get(network["_target_"]))
        _check_channels(network, images=images, labels=labels)
        with without_initialization(network), bounded_construction():
            module = build_network(network, allow=allow)
        model = Segmenter(network=module, images=images, size=_size(description["size"]))
        temperature = _temperature(description["temperature"])
    state, info = _read_weights(folder / WEIGHTS, expected=module.state_dict())
    if any(buffer.is_meta for name, buffer in module.named_buffers() if name not in state):
        # Tables that are computed anew and not saved; that it fits into the memory is known by now.
        with torch.random.fork_rng(devices=[]):
            model.network = module = build_network(network, allow=allow)
    module.load_state_dict(state, assign=True)
    tensors = (*module.parameters(), *module.buffers())
    assert not any(tensor.is_meta for tensor in tensors), "a network on the list saves all it needs"
    return Bundle(
        model=model.eval(),
        labels=labels,
        network=network,
        info=info,
        temperature=temperature,
        inputs=_read_inputs(folder / INPUTS),
    )


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    if not file.is_file():
        raise UsageError(
            f"{folder} is no bundle: it has no {DESCRIPTION}; give the `model` folder of a run"
        )
    if file.stat().st_size > _MAX_DESCRIPTION_BYTES:
        raise UsageError(f"{file} is larger than any description of a model: it is damaged")
    value = read_object(file)
    if "format" not in value:
        raise UsageError(f"{file} is no description of a model: it has no `format`")
    if value["format"] != FORMAT:
        raise UsageError(
            f"{file} has format {value['format']!r}, but Truemask {__version__} reads {FORMAT}: "
            f"use the version that wrote it ({value.get('truemask', 'unknown')}) or a later one"
        )
    value.setdefault("size", None)  # which bundles of version 0.1 do not state, as the next
    value.setdefault("temperature", 1.0)
    for key in _KEYS:
        if key not in value:
            raise UsageError(f"{file} has no `{key}`: it is damaged, copy it again")
    for key in value:
        if key not in _KEYS:
            raise UsageError(f"{file} has the unknown key {key!r}; allowed are {', '.join(_KEYS)}")
    return value


def _read_inputs(file: Path) -> Inputs | None:
    if not file.is_file():  # as in bundles of version 0.1
        return None
    if file.stat().st_size > _MAX_INPUTS_BYTES:
        raise UsageError(f"{file} is larger than any note of training images: it is damaged")
    return Inputs(value=read_object(file), file=file)


def _images(value: Any) -> ImageSpec:
    if not isinstance(value, dict):
        raise UsageError("`images` is not a mapping")
    channels = value.get("channels")
    if not isinstance(channels, int) or not 1 <= channels <= _MAX_CHANNELS:
        raise UsageError(f"images.channels is {channels!r}; allowed is 1 to {_MAX_CHANNELS}")
    return ImageSpec.from_json(value)


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = value if isinstance(value, list) else []
    if len(sides) != 2 or not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        raise UsageError(
            f"size is {value!r}, but must be null, or height and width up to {MAX_SIDE}"
        )
    return sides[0], sides[1]


def _check_channels(network: Mapping[str, Any], *, images: ImageSpec, labels: LabelMap) -> None:
    """Refuse a network that contradicts the images or the classes beside it."""
    wanted = {"in_channels": images.channels, "out_channels": labels.num_logits}
    for key, channels in wanted.items():
        if network.get(key, channels) != channels:
            raise UsageError(
                f"network.{key} is {network[key]}, but its images and classes need {channels}"
            )


def _read_weights(
    file: Path, *, expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, once its header was held against what is expected, and its info."""
    if not file.is_file():
        raise UsageError(f"{file} is missing: the bundle has no weights, copy it again")
    try:
        with safetensors.safe_open(str(file), framework="pt", device="cpu") as content:
            _check_header(content, file, expected)
            # Copies: a mapped tensor would change with its file.
            state = {name: content.get_tensor(name).clone() for name in expected}
            metadata = content.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise UsageError(
            f"{file} is not a safetensors file, or is cut off ({error}): copy it again"
        ) from error
    return state, _info(metadata, file)


def _check_header(content: Any, file: Path, expected: Mapping[str, Tensor]) -> None:
    names = set(content.keys())
    for name in expected:
        if name not in names:
            raise UsageError(f"{file} does not fit {DESCRIPTION}: the tensor {name} is missing")
    for name in sorted(names):
        if name not in expected:
            raise UsageError(
                f"{file} does not fit {DESCRIPTION}: the network has no tensor {name}, "
                "which the file holds"
            )
    for name, tensor in expected.items():
        part = content.get_slice(name)
        found = f"{part.get_dtype()} {part.get_shape()}"
        wanted = f"{_DTYPES[_saved_dtype(tensor)]} {list(tensor.shape)}"
        if found != wanted:
            raise UsageError(
                f"{file} does not fit {DESCRIPTION}: the tensor {name} is {found}, "
                f"but the network needs {wanted}"
            )


def _info(metadata: Mapping[str, str], file: Path) -> dict[str, Any]:
    try:
        info = json.loads(metadata.get("info", "{}"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file}: its `info` is not valid JSON: {error}") from error
    if not isinstance(info, dict):
        raise UsageError(f"{file}: its `info` is not a mapping")
    return info
