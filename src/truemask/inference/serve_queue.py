"""Images of concurrent requests, brought together to batches: one queue and thread a model.

A batch is what waits when the thread is free: images of one size, the oldest first. Nobody waits
for a batch to become full, so that batching never costs time; under load it fills by itself.
An image's mask does not depend on what else is in its batch, as engines promise.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Shaped, UInt8

from truemask.bundle import Bundle
from truemask.inference.engine import Engine
from truemask.inference.predict_image import predict_image
from truemask.models.tiling import LARGEST_SIDE

WHOLE_PIXELS = LARGEST_SIDE**2
"""Larger images are predicted in tiles by PyTorch, one at a time."""

_BATCH_PIXELS = 1 << 16
"""Of a batch; larger images are computed alone. Batches spare what each call costs beside its sums,
which only small images notice, and take memory (docs/log.md)."""


_FADING = 0.8
"""What a measurement weighs when the next one comes: the last five count most."""

_FEWEST = 8
"""Batches that are measured before anything is told from them; the very first is slow, and none."""


class QueueFull(Exception):
    """No more images are accepted now."""


class QueueSlow(QueueFull):
    """An image would be answered too late.

    Attributes:
        seconds: until then, as those before it and it would probably take.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds:.1f} seconds")
        self.seconds = seconds


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model that is served.

    Attributes:
        name: in requests.
        bundle: the model itself, which predicts images too large for one piece.
        engine: what predicts all others.
        reason: why this engine.
    """

    name: str
    bundle: Bundle
    engine: Engine
    reason: str = ""


@dataclass(frozen=True)
class Found:
    """The mask of one image, and its mean confidence from 0 to 1."""

    ids: UInt8[np.ndarray, "H W"]
    confidence: float


@dataclass(eq=False)
class Place:
    """A place in a queue, from an image's decoding to its answer.

    Attributes:
        pixels: of the image.
        computed: whether its mask is made, so that nobody waits for it any more.
    """

    pixels: int
    computed: bool = False


@dataclass(frozen=True, eq=False)
class _Waiting:
    image: Shaped[np.ndarray, "H W C"]
    place: Place
    future: "Future[Found]" = field(default_factory=Future)


@dataclass(eq=False)
class Rate:
    """How fast images were computed of late.

    The time of an image is neither the same for all nor in proportion to its pixels: small ones
    cost more a pixel, large ones more an image. Of the two estimates the lower one is told, so that
    nobody is sent away for images of another size than the measured ones.
    """

    images: float = 0.0
    pixels: float = 0.0
    seconds: float = 0.0
    batches: int = 0

    def add(self, images: int, pixels: int, seconds: float) -> None:
        """What one batch took."""
        self.batches += 1
        if self.batches == 1:
            return
        self.images = self.images * _FADING + images
        self.pixels = self.pixels * _FADING + pixels
        self.seconds = self.seconds * _FADING + seconds

    def wait(self, images: int, pixels: int) -> float:
        """Seconds that so many would take; 0 while too little was measured."""
        if self.batches <= _FEWEST:
            return 0.0
        return self.seconds * min(images / self.images, pixels / self.pixels)


class ModelQueue:
    """A bounded queue before a model, and the thread that empties it.

    Args:
        model: what computes.
        batch: most images that are computed at once.
        images: most that may be accepted and unanswered.
        pixels: most that these may have together; one image is accepted whatever its size.
        seconds: longest that an image and those before it may take.
        observe: called with the size of each batch.
    """

    def __init__(
        self,
        model: ServedModel,
        *,
        batch: int,
        images: int,
        pixels: int,
        seconds: float = math.inf,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.model = model
        self._batch = batch
        self._most_images, self._most_pixels, self._most_seconds = images, pixels, seconds
        self._observe = observe
        self._placed = self._placed_pixels = 0
        self._ahead = self._ahead_pixels = 0
        self._rate = Rate()
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"model {model.name}", daemon=True)
        self._thread.start()

    @property
    def placed(self) -> int:
        """Images that are accepted and not yet answered."""
        return self._placed

    @property
    def wait(self) -> float:
        """Seconds that an image which came now would probably wait; 0 while that is not known."""
        return self._rate.wait(self._ahead, self._ahead_pixels)

    @contextmanager
    def place(self, pixels: int) -> Iterator[Place]:
        """A place for an image of so many pixels, from its decoding to its answer.

        Raises:
            QueueFull: there is none.
            QueueSlow: its answer would probably come too late.
        """
        place = Place(pixels)
        with self._changed:
            full = self._placed >= self._most_images
            heavy = self._placed > 0 and self._placed_pixels + pixels > self._most_pixels
            if full or heavy or self._closed:
                raise QueueFull
            # Whatever it would take by itself, it is tried: how else should that become known?
            answer = self._rate.wait(self._ahead + 1, self._ahead_pixels + pixels)
            if self._ahead and answer > self._most_seconds:
                raise QueueSlow(answer)
            self._placed += 1
            self._placed_pixels += pixels
            self._ahead += 1
            self._ahead_pixels += pixels
        try:
            yield place
        finally:
            with self._changed:
                self._placed -= 1
                self._placed_pixels -= pixels
                self._done(place)

    def _done(self, place: Place) -> None:
        """Nobody waits for it any more; called with the lock."""
        if not place.computed:
            place.computed = True
            self._ahead -= 1
            self._ahead_pixels -= place.pixels

    def submit(self, image: Shaped[np.ndarray, "H W C"], place: Place) -> "Future[Found]":
        """Predict an image that has a place; a future that is cancelled in time costs nothing."""
        waiting = _Waiting(image, place)
        with self._changed:
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.future

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next():
            live = [item for item in batch if item.future.set_running_or_notify_cancel()]
            if not live:
                continue
            self._observe(len(live))
            started = time.monotonic()
            try:
                found = self._predict([item.image for item in live])
                pixels = sum(item.place.pixels for item in live)
                self._rate.add(len(live), pixels, time.monotonic() - started)
            except Exception as error:  # the requests report it, and the thread goes on
                for item in live:
                    item.future.set_exception(error)
            else:
                with self._changed:
                    for item in live:
                        self._done(item.place)
                for item, one in zip(live, found, strict=True):
                    item.future.set_result(one)

    def _next(self) -> list[_Waiting]:
        """The images of the next batch; none when the queue is closed and empty."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return []
            shape = self._waiting[0].image.shape
            most = max(1, min(self._batch, _BATCH_PIXELS // (shape[0] * shape[1])))
            chosen: list[_Waiting] = []
            kept: deque[_Waiting] = deque()
            for item in self._waiting:
                same = item.image.shape == shape and len(chosen) < most
                (chosen if same else kept).append(item)
            self._waiting = kept
            return chosen

    def _predict(self, images: list[Shaped[np.ndarray, "H W C"]]) -> list[Found]:
        height, width = images[0].shape[:2]
        if height * width > WHOLE_PIXELS:
            tensors = (torch.from_numpy(image).permute(2, 0, 1) for image in images)
            whole = (predict_image(self.model.bundle, tensor) for tensor in tensors)
            return [Found(one.ids.numpy(), one.confidence) for one in whole]
        batch = images[0][None] if len(images) == 1 else np.stack(images)
        found = self.model.engine.predict(batch.transpose(0, 3, 1, 2))
        assert found.confidence is not None
        return [
            Found(ids, float(sure)) for ids, sure in zip(found.ids, found.confidence, strict=True)
        ]
