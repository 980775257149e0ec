"""A small model, pictures of every format, and servers that run, for the tests of `serve`."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image

from truemask.bundle import Bundle
from truemask.images import ImageSpec
from truemask.inference.engine import BatchPrediction, TorchEngine
from truemask.inference.serve import create_app
from truemask.inference.serve_http import run_in_thread
from truemask.inference.serve_limits import Limits
from truemask.inference.serve_queue import ServedModel
from truemask.labels import LabelMap
from truemask.models.segmenter import Segmenter
from truemask.models.unet import UNet

NAMES = ("background", "<b>road</b>", 'sky & "sea"')


def small_bundle(*, seed: int = 0, names: tuple[str, ...] = NAMES, channels: int = 3) -> Bundle:
    """A U-Net with random weights."""
    torch.manual_seed(seed)
    network = UNet(in_channels=channels, out_channels=len(names), widths=(4, 6))
    model = Segmenter(network=network, images=ImageSpec(channels=channels, mean=(0.5,), std=(0.2,)))
    return Bundle(model=model.eval(), labels=LabelMap(names=names, values={}), network={}, info={})


def served(name: str = "roads", **options) -> ServedModel:
    bundle = small_bundle(**options)
    return ServedModel(name=name, bundle=bundle, engine=TorchEngine(bundle))


@dataclass
class SlowEngine:
    """Computes when it is allowed to, and remembers how many images each batch had."""

    inner: TorchEngine
    free: threading.Event = field(default_factory=threading.Event)
    batches: list[int] = field(default_factory=list)
    name = "slow"

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def predict(self, images, **how) -> BatchPrediction:
        assert self.free.wait(30)
        self.batches.append(len(images))
        return self.inner.predict(images, **how)


def slow_model(name: str = "roads") -> tuple[ServedModel, SlowEngine]:
    bundle = small_bundle()
    engine = SlowEngine(TorchEngine(bundle))
    return ServedModel(name=name, bundle=bundle, engine=engine), engine


@contextmanager
def serving(*models: ServedModel, **limits) -> Iterator[str]:
    """The address of a server at a free port."""
    address, stop = run_in_thread(create_app(models, Limits(**limits)))
    try:
        yield address
    finally:
        stop()


def pixels(height: int = 40, width: int = 56, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    content = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(content, format=kind, **options)
    return content.getvalue()


FORMATS: dict[str, Callable[[np.ndarray], bytes]] = {
    "JPEG": lambda image: encoded(image, "JPEG", quality=90),
    "PNG": lambda image: encoded(image, "PNG"),
    "TIFF": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
    "WEBP": lambda image: encoded(image, "WEBP", lossless=True),
    "GIF": lambda image: encoded(image, "GIF"),
    "BMP": lambda image: encoded(image, "BMP"),
}
