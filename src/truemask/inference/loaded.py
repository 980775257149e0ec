"""A trained model in a notebook: `truemask.load(RUN).predict(image)` shows what it found."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import torch
from jaxtyping import Float16, Shaped, UInt8
from markupsafe import escape
from PIL import Image
from torch import Tensor, nn

from truemask.bundle import Bundle
from truemask.errors import UsageError
from truemask.files import atomic_path
from truemask.images import to_rgb
from truemask.inference.doubt import Doubt, find_doubt
from truemask.inference.given import as_tensor, move, require_ways
from truemask.inference.lowered import Precision, with_precision
from truemask.inference.overlay import overlay_image
from truemask.inference.predict_image import predict_image
from truemask.inference.sources import find_source
from truemask.labels import LabelMap
from truemask.report import pictures
from truemask.report.formats import percent

OneImage: TypeAlias = (
    str | Path | Image.Image | Shaped[np.ndarray, "H W *C"] | Shaped[Tensor, "C H W"]
)
"""What a model predicts: a file, or its content in one of three forms."""

_SHOWN = pictures.Quality(480, 80)


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """What a model says of one image; in a notebook it shows itself.

    Attributes:
        ids: the class of each pixel.
        confidence: mean over pixels of the probability of that class.
        entropy: mean over pixels of the entropy of the probabilities, from 0 to 1.
        labels: names and colours of the classes.
        image: what was predicted, as 8-bit RGB.
        probabilities: of each class, where they were asked for.
        doubt: how far the image is from the training images; `None` where these are not known.
    """

    ids: UInt8[np.ndarray, "H W"]
    confidence: float
    entropy: float
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
        """The image with the mask over it; `alpha` from 0 to 1 is how much of it is colour.

        Raises:
            UsageError: `alpha` is none of these numbers.
        """
        if not isinstance(alpha, int | float | np.number) or not 0 <= alpha <= 1:
            raise UsageError(f"alpha is {alpha!r}: give a number from 0 to 1")
        return overlay_image(self.image, self.ids, self.labels, alpha=alpha)

    def save(
        self, path: str | Path, *, kind: Literal["ids", "color", "overlay", "probabilities"] = "ids"
    ) -> None:
        """Write one of the files that `truemask predict` writes.

        Args:
            path: the file; what was there is replaced, in one step.
            kind: "ids", an 8-bit grey PNG; "color", the same with the classes' colours as its
                palette; "overlay", an image of the kind that the path ends in, such as .jpg or
                .png; "probabilities", a NumPy archive (.npz).

        Raises:
            UsageError: the probabilities were not asked for, or the file cannot be written.
        """
        if not isinstance(path, str | os.PathLike):
            raise UsageError(f"path is {path!r}: give the name of a file, such as 'mask.png'")
        file, content = Path(path), io.BytesIO()
        if kind == "probabilities":
            if self.probabilities is None:
                raise UsageError("there are none: predict(..., probabilities=True)")
            np.savez_compressed(
                content, probabilities=self.probabilities, classes=np.array(self.labels.names)
            )
        elif kind == "overlay":
            form = Image.registered_extensions().get(file.suffix.lower())
            if form is None:
                raise UsageError(f"{file} ends in no kind of image: call it .png or .jpg")
            options = {"quality": 90} if form in ("JPEG", "WEBP") else {}
            try:
                Image.fromarray(self.overlay()).save(content, format=form, **options)
            except (OSError, KeyError, ValueError) as error:  # a kind that is read only, or of grey
                raise UsageError(
                    f"Pillow writes no RGB image as {form}: call {file} .png or .jpg"
                ) from error
        elif kind in ("ids", "color"):
            mask = Image.fromarray(self.ids)
            if kind == "color":
                mask.putpalette(self.labels.palette.tobytes())
            mask.save(content, format="PNG")
        else:
            raise UsageError(f"kind is {kind!r}: give ids, color, overlay or probabilities")
        with atomic_path(file) as temporary:
            temporary.write_bytes(content.getvalue())

    def to_json(self) -> dict[str, Any]:
        """Plain values: all but the pixels."""
        height, width = self.ids.shape
        return {
            "height": height,
            "width": width,
            "shares": self.shares,
            "confidence": self.confidence,
            "entropy": self.entropy,
            "unlikeness": None if self.doubt is None else self.doubt.unlikeness,
            "warnings": list(self.warnings),
        }

    def _repr_html_(self) -> str:
        """Image, mask and overlay side by side, and the classes with their shares."""
        drawn = (
            ("image", pictures.photo(self.image, _SHOWN)),
            ("mask", pictures.mask(self.ids, self.labels, _SHOWN)),
            ("overlay", pictures.photo(self.overlay(), _SHOWN)),
        )
        views = "".join(
            f'<figure style="margin:0"><img src="{picture.uri}" '
            f'alt="{name}" style="width:100%"><figcaption>{name}</figcaption></figure>'
            for name, picture in drawn
        )
        shown = sorted(self.shares.items(), key=lambda item: -item[1])
        colors = dict(zip(self.labels.names, self.labels.colors, strict=True))
        legend = "".join(
            '<span style="white-space:nowrap;margin-right:1em"><span style="display:inline-block;'
            f'width:.9em;height:.9em;background:rgb{colors[name]};border:1px solid #888"></span> '
            f"{escape(name)} {escape(percent(share))}</span> "
            for name, share in shown
            if share > 0
        )
        height, width = self.ids.shape
        warnings = "".join(
            '<p style="border-left:4px solid #d55e00;padding:.2em .6em;margin:.2em 0 .6em">'
            f"<b>Look before you use this mask.</b> {escape(warning)}</p>"
            for warning in self.warnings
        )
        grid = "display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.6rem"
        return (
            f'{warnings}<div style="{grid};max-width:1100px">{views}</div>'
            f"<p>{legend}</p><p>{width} x {height} pixels, mean confidence "
            f"{self.confidence:.3f}</p>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class LoadedModel:
    """A trained model, ready to predict.

    Attributes:
        bundle: the network, what its images are and what its classes are.
        source: where it is from: a folder, or "user/name@commit" of the Hub.
    """

    bundle: Bundle
    source: str = ""

    def __repr__(self) -> str:
        spec, size = self.bundle.model.images, self.bundle.model.size
        kind = {1: "grey", 3: "RGB"}.get(spec.channels, f"{spec.channels}-channel")
        at = "any size" if size is None else f"any size, seen at {size[1]} x {size[0]}"
        return (
            f"LoadedModel({self.source!r}: {type(self.bundle.model.network).__name__} for {kind} "
            f"images of {at}, on {self.bundle.model.mean.device}; {self.labels.legend()})"
        )

    @property
    def labels(self) -> LabelMap:
        """Names and colours of the classes."""
        return self.bundle.labels

    def to(self, device: str | torch.device) -> "LoadedModel":
        """Move the model, such as to "cuda".

        Raises:
            UsageError: there is no such device here.
        """
        move(self.bundle.model, device)
        return self

    @overload
    def predict(
        self,
        image: OneImage,
        *,
        probabilities: bool = ...,
        tile: int | None = ...,
        flips: bool = ...,
        scales: Sequence[float] = ...,
    ) -> Segmentation: ...

    @overload
    def predict(
        self,
        image: list[OneImage],
        *,
        probabilities: bool = ...,
        tile: int | None = ...,
        flips: bool = ...,
        scales: Sequence[float] = ...,
    ) -> list[Segmentation]: ...

    def predict(
        self,
        image: OneImage | list[OneImage],
        *,
        probabilities: bool = False,
        tile: int | None = None,
        flips: bool = False,
        scales: Sequence[float] = (1.0,),
    ) -> Segmentation | list[Segmentation]:
        """Predict one image of any size, as `truemask predict` and `truemask evaluate` do.

        Args:
            image: a file; an image of Pillow, of which holds what holds of files (16 bits are
                scaled, transparency is refused); an array (H, W, C) or (H, W), or a tensor
                (C, H, W), of the dtype and range that the model takes: `uint8` for photos. Of a
                list, each by itself, so that no image changes another's mask; for more than fit
                into memory see `predict_each`.
            probabilities: whether to keep the probability of each class.
            tile: largest side of a tile in pixels, 512 or more; `None` cuts only images above
                2048x2048 pixels.
            flips: whether to average the probabilities of the image and its mirror images.
            scales: sizes of the image, such as (0.75, 1, 1.25), whose probabilities are averaged.

        Raises:
            UsageError: the image cannot be read, or is of another kind than the model takes; or
                `tile` or `scales` are none.
        """
        how: dict[str, Any] = {
            "probabilities": probabilities, "tile": tile, "flips": flips, "scales": scales,
        }  # fmt: skip
        if isinstance(image, list):
            return list(self.predict_each(image, **how))
        require_ways(**how)
        tensor = as_tensor(image, self.bundle.model.images)
        found = predict_image(self.bundle, tensor, **how)
        shares = found.probabilities
        return Segmentation(
            ids=found.ids.numpy(),
            confidence=found.confidence,
            entropy=found.entropy,
            labels=self.bundle.labels,
            image=to_rgb(tensor, self.bundle.model.images),
            probabilities=None if shares is None else shares.numpy(),
            doubt=find_doubt(self.bundle, tensor),
        )

    def predict_each(self, images: Iterable[OneImage], **how: Any) -> Iterator[Segmentation]:
        """Predict many images, each when it is asked for; `how` is as `predict` takes it."""
        if isinstance(images, str | Path | Image.Image) or not isinstance(images, Iterable):
            raise UsageError("predict_each takes several images: give a list, or use predict")
        for image in images:
            yield self.predict(image, **how)


def load(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    allow: Mapping[str, type[nn.Module]] | None = None,
) -> LoadedModel:
    """A trained model from a run, from a bundle's folder, or from the Hugging Face Hub.

    Nothing of its content is executed: weights are safetensors, the description is JSON, and only
    networks of a fixed list are built.

    Args:
        source: a run folder, or its `model/`, wherever that was copied; or "user/name" of the Hub,
            where nothing of that name lies here, or "hf://user/name@revision". A commit as revision
            pins the model; `LoadedModel.source` says which it was.
        device: where it computes, such as "cuda".
        precision: "bf16" computes in bfloat16, which is two to three times as fast on processors
            that do so natively; a few pixels in a thousand get another class.
        allow: by dotted name, classes of your own that the bundle may be built of.

    Raises:
        UsageError: there is none, it is damaged, there is no such device or precision, or the Hub
            cannot be reached.
    """
    if allow is not None and not isinstance(allow, Mapping):
        raise UsageError(
            f"allow is a {type(allow).__name__}: give a dict of classes by their dotted names, "
            '{"my_package.nets.MyNet": MyNet}'
        )
    found = find_source(source)
    bundle = found.load(allow=allow)
    return LoadedModel(with_precision(bundle, precision), found.place).to(device)
