"""The mask of a raster, written as it is predicted: neither image nor mask is in memory as a whole.

OUT/<name>.tif                 class ids, with the classes' colours as its palette
OUT/<name>.overlay.jpg         the image with the mask over it, at most 4096 pixels a side
OUT/<name>.probabilities.tif   a channel for each class; 255 stands for a probability of 1
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from truemask.bundle import Bundle
from truemask.files import atomic_path
from truemask.geometry import Box
from truemask.images import to_rgb
from truemask.inference.augment import augmented
from truemask.inference.doubt import Thinning, find_doubt
from truemask.inference.places import Place
from truemask.inference.rasters import RowWriter, UnusableRaster, color_table, open_raster
from truemask.inference.records import SOFTWARE
from truemask.inference.settings import Settings
from truemask.inference.summary import PredictedImage
from truemask.inference.tally import Tally, read_off
from truemask.inference.target import Target
from truemask.models.segmenter import evaluating
from truemask.models.tiling import HUGE_SIDE, default_tile, logits_by_blocks

OVERVIEW_SIDE = 4096
"""The most pixels a side of an overlay of a raster."""


def predict_raster(
    bundle: Bundle,
    target: Target,
    settings: Settings,
    *,
    key: str,
    describe: Any,
    clear: Callable[[], None],
    tick: Callable[[float], None] | None = None,
) -> "PredictedRaster":
    """Predict a raster and write its mask.

    Args:
        bundle: the model and its labels.
        target: the raster.
        settings: what is asked for.
        key: what the mask is to say of how it was made.
        describe: makes the `PredictedImage` of a tally, height, width, area of a pixel and doubt.
        clear: called when all is written, before it replaces what is there.
        tick: called with the share of the raster that is done.

    Returns:
        What was written, and what is needed for the files beside it.

    Raises:
        UnusableRaster: the raster cannot be used.
        UsageError: the mask cannot be written.
    """
    model, labels = bundle.model, bundle.labels
    device = model.mean.device

    def tile(height: int, width: int) -> int:
        return settings.tile or default_tile(model, height, width)

    with ExitStack() as stack:
        raster = stack.enter_context(
            open_raster(target.source, model.images, bands=settings.bands, tile=tile)
        )
        height, width = raster.height, raster.width
        if model.size is not None and height * width > HUGE_SIDE**2:
            raise UnusableRaster(
                f"{target.source} is {width}x{height} pixels, and this model brings every image to "
                f"{model.size[0]}x{model.size[1]} at once: cut it into pieces of the size of those "
                "that the model was trained on"
            )
        if settings.polygons and height * width > HUGE_SIDE**2:
            raise UnusableRaster(
                f"{target.source} is {width}x{height} pixels, too large for --polygons: leave that "
                "out, and trace the mask by `gdal_polygonize.py MASK.tif OUT.geojson`"
            )
        temporary = stack.enter_context(atomic_path(target.mask))
        holes: dict[str, Any] = {"nodata": labels.ignore_index} if raster.has_holes else {}
        mask = RowWriter(temporary, raster, **holes)
        stack.callback(mask.close)
        mask.file.write_colormap(1, color_table(labels))
        shares: RowWriter | None = None
        if settings.probabilities:
            place = stack.enter_context(atomic_path(target.probabilities))
            shares = RowWriter(place, raster, count=labels.num_classes)
            stack.callback(shares.close)
            shares.file.scales = (1 / 255,) * labels.num_classes
            shares.file.descriptions = labels.names
        overview = Overview(height, width) if settings.overlay else None
        thinning = Thinning(bundle, height, width) if model.size is None else None
        tally = Tally(labels.num_classes)
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        averaged = augmented(
            model, flips=settings.flips, scales=settings.scales, temperature=bundle.temperature
        )

        def compute(images: Tensor) -> Tensor:
            with raster.blamed():
                return averaged(images)

        for box, logits in logits_by_blocks(
            model, raster.read, height, width, tile=settings.tile, compute=compute
        ):

            def keep(strip: Box, found: Float[Tensor, "K h w"], box: Box = box) -> None:
                if shares is not None:
                    place = Box(box.top + strip.top, box.left, strip.height, strip.width)
                    shares.put(place, (found * 255).round().to(torch.uint8).cpu().numpy())

            valid = raster.valid(box)
            ids = read_off(bundle, logits, tally, valid=valid, keep=keep).numpy()
            mask.put(box, ids[None])
            if overview is not None or thinning is not None:
                part = raster.read(box)
                if overview is not None:
                    overview.put(box, to_rgb(part, model.images), ids)
                if thinning is not None:
                    thinning.add(part, top=box.top, left=box.left)
            if tick is not None:
                tick((box.top * width + (box.left + box.width) * box.height) / (height * width))
            if box.left + box.width == width:
                for writer in (mask, shares):
                    if writer is not None:
                        writer.flush(box.top + box.height)
        if thinning is not None:
            doubt = thinning.doubt()
        else:
            doubt = find_doubt(bundle, raster.read(Box(0, 0, height, width)))
        image: PredictedImage = describe(tally, height, width, raster.pixel_area(), doubt)
        record = target.record(key, image.figures(), settings)
        mask.describe(software=SOFTWARE, text=record.text())
        clear()
        # What is open is closed in the reverse order: the files are whole before they get names.
        return PredictedRaster(image=image, overview=overview, place=raster.place())


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictedRaster:
    """A raster whose mask is written.

    Attributes:
        image: what was found of it.
        overview: a small picture for an overlay, where one is asked for.
        place: where it lies on the earth, if that is known.
    """

    image: PredictedImage
    overview: "Overview | None"
    place: Place | None


class Overview:
    """Every n-th pixel of an image and its mask, as many as a picture to look at may have.

    Attributes:
        colors: RGB.
        ids: class ids.
    """

    def __init__(self, height: int, width: int) -> None:
        self.step = -(-max(height, width) // OVERVIEW_SIDE)
        shape = (-(-height // self.step), -(-width // self.step))
        self.colors: UInt8[np.ndarray, "h w 3"] = np.zeros((*shape, 3), np.uint8)
        self.ids: UInt8[np.ndarray, "h w"] = np.zeros(shape, np.uint8)

    def put(
        self, box: Box, image: UInt8[np.ndarray, "h w 3"], ids: UInt8[np.ndarray, "h w"]
    ) -> None:
        """Take what a box has of it."""
        top, left = -box.top % self.step, -box.left % self.step
        chosen = ids[top :: self.step, left :: self.step]
        if chosen.size == 0:
            return
        row, column = -(-box.top // self.step), -(-box.left // self.step)
        place = (slice(row, row + chosen.shape[0]), slice(column, column + chosen.shape[1]))
        self.ids[place] = chosen
        self.colors[place] = image[top :: self.step, left :: self.step]
