"""A trained model in a notebook: `truemask.load(RUN).predict(image)` shows what it found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, Shaped, UInt8
from markupsafe import escape
from PIL import Image, ImageOps
from torch import Tensor, nn

from truemask.bundle import DESCRIPTION, Bundle, load_bundle
from truemask.datasets.reading import read_image
from truemask.errors import UsageError
from truemask.images import ImageSpec, to_rgb
from truemask.inference.doubt import Doubt, find_doubt
from truemask.inference.lowered import Precision, with_precision
from truemask.inference.overlay import overlay_image
from truemask.inference.predict import predict_image
from truemask.labels import LabelMap
from truemask.report import pictures
from truemask.runs import Run

_SHOWN = pictures.Quality(480, 80)


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """What a model says of one image; in a notebook it shows itself.

    Attributes:
        ids: the class of each pixel.
        confidence: mean over pixels of the probability of that class.
        labels: names and colours of the classes.
        image: what was predicted, as 8-bit RGB.
        probabilities: of each class, where they were asked for.
        doubt: how far the image is from the training images; `None` where these are not known.
    """

    ids: UInt8[np.ndarray, "H W"]
    confidence: float
    labels: LabelMap
    image: UInt8[np.ndarray, "H W 3"] = field(repr=False)
    probabilities: Float16[np.ndarray, "K H W"] | None = field(default=None, repr=False)
    doubt: Doubt | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the mask should not be trusted without looking, a line each; mostly empty."""
        warning = None if self.doubt is None else self.doubt.warning
        return () if warning is None else (f"This image is {warning}.",)

    @cached_property
    def shares(self) -> dict[str, float]:
        """Class -> share of the pixels, from 0 to 1."""
        counts = np.bincount(self.ids.ravel(), minlength=self.labels.num_classes)
        return {
            name: float(count / self.ids.size)
            for name, count in zip(self.labels.names, counts, strict=True)
        }

    def mask(self, name: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Where a class is, (H, W) of bool.

        Raises:
            UsageError: there is no such class.
        """
        if name not in self.labels.names:
            raise UsageError(f"there is no class {name!r}: there are {self.labels.legend()}")
        found: np.ndarray[Any, np.dtype[np.bool_]] = self.ids == self.labels.names.index(name)
        return found

    @property
    def color(self) -> UInt8[np.ndarray, "H W 3"]:
        """The classes in their colours."""
        return self.labels.colorize(self.ids)

    def overlay(self, *, alpha: float = 0.5) -> UInt8[np.ndarray, "H W 3"]:
        """The image with the mask over it; `alpha` from 0 to 1 is how much of it is colour."""
        return overlay_image(self.image, self.ids, self.labels, alpha=alpha)

    def save(self, path: str | Path) -> None:
        """Write the class ids as an 8-bit grey PNG, as `truemask predict` does."""
        Image.fromarray(self.ids).save(path, format="PNG")

    def _repr_html_(self) -> str:
        """Image, mask and overlay side by side, and the classes with their shares."""
        drawn = (
            ("image", pictures.photo(self.image, _SHOWN)),
            ("mask", pictures.mask(self.ids, self.labels, _SHOWN)),
            ("overlay", pictures.photo(self.overlay(), _SHOWN)),
        )
        views = "".join(
            f'<figure style="margin:0;flex:1 1 0;min-width:10rem"><img src="{picture.uri}" '
            f'alt="{name}" style="width:100%"><figcaption>{name}</figcaption></figure>'
            for name, picture in drawn
        )
        shown = sorted(self.shares.items(), key=lambda item: -item[1])
        colors = dict(zip(self.labels.names, self.labels.colors, strict=True))
        legend = "".join(
            '<span style="white-space:nowrap;margin-right:1em"><span style="display:inline-block;'
            f'width:.9em;height:.9em;background:rgb{colors[name]};border:1px solid #888"></span> '
            f"{escape(name)} {share:.1%}</span> "
            for name, share in shown
            if share > 0
        )
        height, width = self.ids.shape
        warnings = "".join(
            '<p style="border-left:4px solid #d55e00;padding:.2em .6em;margin:.6em 0">'
            f"<b>Look before you use this mask.</b> {escape(warning)}</p>"
            for warning in self.warnings
        )
        return (
            f'<div style="display:flex;gap:.6rem;flex-wrap:wrap;max-width:1100px">{views}</div>'
            f"<p>{legend}</p><p>{width} x {height} pixels, mean confidence "
            f"{self.confidence:.3f}</p>{warnings}"
        )


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A trained model, ready to predict.

    Attributes:
        bundle: the network, what its images are and what its classes are.
    """

    bundle: Bundle

    @property
    def labels(self) -> LabelMap:
        """Names and colours of the classes."""
        return self.bundle.labels

    def to(self, device: str | torch.device) -> "LoadedModel":
        """Move the model, such as to "cuda"."""
        self.bundle.model.to(device)
        return self

    def predict(
        self,
        image: str | Path | Image.Image | Shaped[np.ndarray, "H W *C"] | Shaped[Tensor, "C H W"],
        *,
        probabilities: bool = False,
        tile: int | None = None,
    ) -> Segmentation:
        """Predict one image of any size, as `truemask predict` and `truemask evaluate` do.

        Args:
            image: a file, an image of Pillow, an array (H, W, C) or (H, W), or a tensor (C, H, W);
                of the dtype and range that the model takes: `uint8` from 0 to 255 for photos.
            probabilities: whether to keep the probability of each class.
            tile: see `inference.predict.predict_image`.

        Raises:
            UsageError: the image cannot be read, or is of another kind than the model takes.
        """
        tensor = _as_tensor(image, self.bundle.model.images)
        found = predict_image(self.bundle, tensor, probabilities=probabilities, tile=tile)
        shares = found.probabilities
        return Segmentation(
            ids=found.ids.numpy(),
            confidence=found.confidence,
            labels=self.bundle.labels,
            image=to_rgb(tensor, self.bundle.model.images),
            probabilities=None if shares is None else shares.numpy(),
            doubt=find_doubt(self.bundle, tensor),
        )


def load(
    source: str | Path,
    *,
    precision: Precision = "fp32",
    allow: Mapping[str, type[nn.Module]] | None = None,
) -> LoadedModel:
    """A trained model from a run, or from a bundle's folder.

    Nothing of its content is executed: weights are safetensors, the description is JSON, and only
    networks of a fixed list are built.

    Args:
        source: a run folder, or its `model/`, wherever that was copied.
        precision: "bf16" computes in bfloat16, which is two to three times as fast on processors
            that do so natively; a few pixels in a thousand get another class.
        allow: by dotted name, classes of your own that the bundle may be built of.

    Raises:
        UsageError: there is neither, it is damaged, or there is no such precision.
    """
    path = Path(source)
    if (path / DESCRIPTION).is_file():
        bundle = load_bundle(path, allow=allow)
    else:
        bundle = Run.open(path).load_bundle(allow=allow)
    return LoadedModel(with_precision(bundle, precision))


def _as_tensor(image: Any, spec: ImageSpec) -> Tensor:
    if isinstance(image, str | Path):
        image = read_image(Path(image), spec)
    if isinstance(image, Tensor):
        plain: Tensor = image.as_subclass(Tensor)
        return plain
    if isinstance(image, Image.Image):
        mode = {1: "L", 3: "RGB"}.get(spec.channels)
        if mode is None or spec.dtype != "uint8":
            raise UsageError(
                f"the model takes images of {spec.channels} channels of {spec.dtype}, which are no "
                "images of Pillow: give an array"
            )
        image = np.asarray(ImageOps.exif_transpose(image).convert(mode))
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3:
        raise UsageError(f"an image is (H, W, C) or (H, W), not of shape {pixels.shape}")
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))
