"""A model to be probed: a copy of it, the batch it is tried with, and the shape of its output."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn import functional

from truemask.checks.batches import Batch, class_ids
from truemask.checks.failures import in_short
from truemask.checks.loss_forms import Form, forms
from truemask.checks.loss_probe import number_of
from truemask.checks.model_copies import (
    SingleValue,
    independent_copy,
    is_single_value,
    settle,
    to_single,
    unwrapped,
)
from truemask.checks.model_geometry import Geometry, geometry_of, window_of_most_classes
from truemask.checks.model_gradients import Gradients, gradients
from truemask.checks.model_layers import Calls, watching
from truemask.checks.model_outputs import Output, main_output, tensors_in
from truemask.checks.untouched import copied, seed
from truemask.errors import UsageError

SMALL = ((64, 96), (128, 160), (192, 256), (256, 320))
"""Sizes of crops to probe with, the first that a model takes: no square, so that a turned output
shows, and multiples of 32, the stride of most networks."""


class ModelProbe:
    """A copy of a model, and what it is tried with. The model itself is only read.

    Args:
        model: any module that takes images and puts out a prediction for every pixel.
        batch: a batch as training gives it.
        num_classes: classes of the masks.
        channels: numbers of channels that the output may have.
        loss: called with the prediction and the masks.
        ignore_index: id of pixels that do not count.

    Attributes:
        model: the copy, in float32 and in training mode as the caller set it: modules that are
            held in evaluation mode within a model in training mode stay so.

    Raises:
        UsageError: the model cannot be copied, or does not take the batch.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        *,
        num_classes: int,
        channels: Sequence[int],
        loss: Callable[..., Any] | None,
        ignore_index: int,
    ) -> None:
        self.original = unwrapped(model)
        self.model = independent_copy(self.original)
        if not self.original.training:
            self.model.train()
        to_single(self.model)
        self.modes = {module: module.training for module in self.model.modules()}
        self.num_classes, self.channels = num_classes, tuple(channels)
        self.ignore_index = ignore_index
        self.loss = copied(loss)
        self.called_in_training: frozenset[str] = frozenset()
        device = next((t.device for t in (*self.model.parameters(), *self.model.buffers())), None)
        images = batch.images.to(device) if device is not None else batch.images
        self.images = images.float() if images.dtype in (torch.half, torch.bfloat16) else images
        self.masks = None if batch.masks is None else batch.masks.to(images.device)
        self.low, self.high = _range_of(self.images)

    # Calling it.

    @contextmanager
    def mode(self, training: bool) -> Iterator[None]:
        """Training mode as the caller has it, or evaluation mode; afterwards training mode."""
        if not training:
            self.model.eval()
        try:
            yield
        finally:
            for module, mode in self.modes.items():
                module.training = mode

    def outputs(
        self, images: Shaped[Tensor, "B C H W"], *, training: bool = False, model: Any = None
    ) -> list[Output]:
        """All tensors that come out; random layers draw the same in every call."""
        seed(0)
        with self.mode(training):
            return list(tensors_in((self.model if model is None else model)(images)))

    def predict(
        self,
        images: Shaped[Tensor, "B C H W"],
        *,
        training: bool = False,
        model: Any = None,
        start: int = 0,
    ) -> Float[Tensor, "B L H W"]:
        """The main output. A `model` is used as it is, and in the mode that it is in.

        Args:
            images: a batch.
            training: whether the copy is in training mode; without a `model`.
            model: instead of the copy.
            start: of the random numbers that a `model` may draw.
        """
        seed(start)
        if model is not None:
            return self.main_of(list(tensors_in(model(images))), images)
        return self.main_of(self.outputs(images, training=training), images)

    def main_of(
        self, outputs: Sequence[Output], images: Shaped[Tensor, "B C H W"]
    ) -> Float[Tensor, "B L H W"]:
        """The tensor at the place of the main output, or else the one that fits best."""
        place = self.main.place if self.main is not None else ""
        for output in outputs:
            if output.place == place and output.tensor.ndim in (3, 4):
                return output.logits
        size = (images.shape[-2], images.shape[-1])
        found = main_output(outputs, batch=len(images), size=size, channels=self.channels)
        if found is None:
            raise LookupError("no output has the axes of a prediction")
        return found.logits

    # What it is about.

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[-2], self.images.shape[-1]

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of the masks; without masks, those of the images."""
        if self.masks is None:
            return self.size
        last = self.masks.ndim == 4 and self.masks.shape[1] > 1 and self.masks.shape[-1] == 1
        height, width = self.masks.shape[1:3] if last else self.masks.shape[-2:]
        return height, width

    @cached_property
    def ids(self) -> Int64[Tensor, "B H W"] | None:
        """Class ids of the masks, of the size of the images; None where there are none."""
        if self.masks is None:
            return None
        return class_ids(self.masks, self.size, num_classes=self.num_classes)

    @property
    def full(self) -> list[Output]:
        """What comes out for the whole batch in evaluation mode."""
        return self._first_pass[0]

    @property
    def calls(self) -> Calls:
        """Which layers are called in evaluation mode."""
        return self._first_pass[1]

    @cached_property
    def _first_pass(self) -> tuple[list[Output], Calls]:
        """The only pass of the whole batch.

        Raises:
            UsageError: the model does not take it.
            SingleValue: it does not because a layer would normalise one value.
        """
        calls = Calls()
        try:
            with torch.no_grad(), watching(self.model, calls.watch, before=calls.enter):
                return self.outputs(self.images), calls
        except UsageError:
            raise
        except Exception as error:
            if calls.inside and is_single_value(error):
                layer, given = calls.inside[-1]
                raise SingleValue(layer, () if given is None else tuple(given.shape)) from error
            raise UsageError(
                f"the model does not take the example batch, images of the shape "
                f"{tuple(self.images.shape)} and dtype {self.images.dtype}: {in_short(error)}"
            ) from error

    @cached_property
    def main(self) -> Output | None:
        """The prediction for the whole batch."""
        return main_output(
            self.full, batch=len(self.images), size=self.mask_size, channels=self.channels
        )

    @cached_property
    def small(self) -> Shaped[Tensor, "2 C h w"]:
        """A crop that the model takes in evaluation mode; two samples; the cheaper to probe with.

        Its values are those of the batch where it has the most classes, or random where those are
        constant.
        """
        return self._cut[0]

    @property
    def small_ids(self) -> Int64[Tensor, "2 h w"] | None:
        """Class ids of the crop; None without masks."""
        return self._cut[1]

    @cached_property
    def _cut(self) -> tuple[Shaped[Tensor, "2 C h w"], Int64[Tensor, "2 h w"] | None]:
        images, ids = self._varied(), self.ids
        if len(images) == 1:
            images = torch.cat([images, images.flip(-1)])
            ids = None if ids is None else torch.cat([ids, ids.flip(-1)])
        images, ids = images[:2], None if ids is None else ids[:2]
        height, width = self.size
        for rows, columns in SMALL:
            if rows > height or columns > width or (rows, columns) == (height, width):
                continue
            place = window_of_most_classes(ids, (height, width), (rows, columns), self.num_classes)
            crop = images[(..., *place)].contiguous()
            if self._takes(crop):
                return crop, None if ids is None else ids[(..., *place)].contiguous()
        return images.contiguous(), ids

    def _varied(self) -> Shaped[Tensor, "B C H W"]:
        if bool((self.images != self.images.flatten()[0]).any()):
            return self.images
        return self.random_like(self.images)

    def _takes(self, images: Shaped[Tensor, "B C h w"]) -> bool:
        """Whether the output for other sizes is like that for the whole batch."""
        try:
            with torch.no_grad():
                self.predict(images)
        except Exception:  # Networks of many authors refuse in many ways.
            return False
        return True

    @cached_property
    def small_output(self) -> Float[Tensor, "B L h w"]:
        """The main output for the small crop in evaluation mode."""
        with torch.no_grad():
            return self.predict(self.small)

    @cached_property
    def geometry(self) -> Geometry:
        """How the size of the output follows from that of the input."""
        if self.main is None:
            return Geometry("other")
        seen = [(tuple(self.size), tuple(self.main.logits.shape[-2:]))]
        if self.small.shape[-2:] != self.images.shape[-2:]:
            after = tuple(self.small_output.shape[-2:])
            seen.append((tuple(self.small.shape[-2:]), after))
        return geometry_of(seen)

    # What it is given.

    def random_like(
        self, images: Shaped[Tensor, "B C H W"], *, start: int = 1
    ) -> Shaped[Tensor, "B C H W"]:
        """Noise in the range of the batch's values."""
        generator = torch.Generator().manual_seed(start)
        noise = torch.rand(images.shape, generator=generator).to(images.device)
        values = self.low + noise * (self.high - self.low)
        return values.to(images.dtype)

    def independent(self, module: nn.Module | None = None) -> nn.Module:
        """Another copy, to be changed."""
        return independent_copy(self.model if module is None else module)

    @cached_property
    def settled(self) -> nn.Module:
        """A copy in evaluation mode whose running statistics are those of the small crop.

        With the statistics of a new network, 0 and 1, features fade from layer to layer.
        """
        model = self.independent()
        settle(model, lambda: self.predict(self.small, model=model))
        return model.eval()

    @cached_property
    def training_gradients(self) -> Gradients:
        """Of the small crop in training mode."""
        calls = Calls()
        model = self.independent()
        with watching(model, calls.watch):
            found = gradients(model, self.small)
        self.called_in_training = frozenset(calls.order)
        return found

    @cached_property
    def evaluation_gradients(self) -> Gradients:
        """Of the small crop in evaluation mode, with settled statistics."""
        return gradients(self.settled, self.small)

    @cached_property
    def shaken(self) -> nn.Module:
        """A copy in evaluation mode with noise on all parameters.

        Layers that begin with zeros, as the last of a residual branch may, then do something.
        """
        model = self.independent()
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                size = float(parameter.square().mean().sqrt()) if parameter.numel() else 0.0
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
                parameter.add_(noise * max(0.2 * size, 0.1 / fan_in**0.5))
        settle(model, lambda: self.predict(self.small, model=model))
        return model.eval()

    # The loss.

    def initial(self, prediction: Float[Tensor, "B L h w"]) -> Float[Tensor, ""] | None:
        """The loss of a prediction for the small crop; None where it cannot be told.

        The prediction is enlarged, or the ids are cut, to one size.
        """
        ids, call = self.small_ids, self.loss_call
        if ids is None or call is None:
            return None
        size = tuple(ids.shape[-2:])
        if prediction.shape[-2:] != size and self.geometry.kind == "scaled":
            prediction = functional.interpolate(prediction, size, mode="bilinear")
        if prediction.shape[-2:] != size and self.geometry.kind == "valid":
            top, left = self.geometry.margin
            ids = ids[:, top : size[0] - top, left : size[1] - left]
        return call(prediction, ids) if prediction.shape[-2:] == ids.shape[-2:] else None

    @cached_property
    def loss_call(self) -> Callable[[Tensor, Tensor], Float[Tensor, ""]] | None:
        """Calls the loss with a prediction (B, L, H, W) and ids (B, H, W); None if nothing works.

        The masks' own form is tried first, then those that losses usually take.
        """
        if self.loss is None or self.main is None:
            return None
        channels = self.main.logits.shape[1]
        ids = self.ids
        scores = torch.zeros(len(self.images), channels, *self.size, device=self.images.device)
        if ids is None:
            generator = torch.Generator().manual_seed(0)
            ids = torch.randint(max(channels, 2), (len(scores), *self.size), generator=generator)
            ids = ids.to(scores.device)
        for call in self._calls(channels):
            try:
                value = call(scores, ids)
            except Exception:  # Losses of many authors refuse in many ways.
                continue
            if value.numel() == 1:
                return call
        return None

    @cached_property
    def accepted_by_loss(self) -> bool | None:
        """Whether the loss takes the output as it is and the masks as they are; None: no loss."""
        if self.loss is None or self.main is None or self.masks is None:
            return None
        seed(0)
        try:
            return bool(number_of(self.loss(self.main.tensor, self.masks)).isfinite())
        except Exception:  # Losses of many authors refuse in many ways.
            return False

    def _calls(self, channels: int) -> Iterator[Callable[[Tensor, Tensor], Float[Tensor, ""]]]:
        loss = self.loss
        if loss is None:
            return
        for group in forms(max(channels, 1), self._target_kind(channels)):
            for form in group:
                if form.channels == channels:
                    yield _caller(loss, form)

    def _target_kind(self, channels: int) -> Any:
        if self.masks is not None and self.masks.ndim == 4 and self.masks.shape[1] > 1:
            return "one_hot"
        floating = self.masks is not None and self.masks.is_floating_point()
        return "float" if floating or (self.masks is None and channels == 1) else "index"


def _caller(loss: Callable[..., Any], form: Form) -> Callable[[Tensor, Tensor], Float[Tensor, ""]]:
    return lambda scores, ids: number_of(
        loss(form.prediction(scores), form.truth(ids, scores.dtype))
    )


def _range_of(images: Shaped[Tensor, "B C H W"]) -> tuple[float, float]:
    """The lowest and the highest value; of constant images, a range around it."""
    low, high = (float(value) for value in images.detach().aminmax())
    if high > low:
        return low, high
    return (0.0, 255.0) if images.dtype == torch.uint8 else (low - 1, high + 1)
