"""What the server accepts: bytes, pixels, time; anything else is refused with its status code.

An upload is looked at in this order, each step cheaper than the next: its length, its bytes as
they come in, the first bytes of the image (415), the size that its header states (413), its pixels
(422). So a decompression bomb is refused before anything of it is unpacked.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Shaped
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.requests import ClientDisconnect, Request

from truemask.datasets.decoding import Content, TooManyPixels, is_image, open_image
from truemask.errors import UsageError
from truemask.images import ImageSpec
from truemask.inference.read_whole import read_whole

_UPLOADS_AT_ONCE = 16
"""Uploads of the largest size whose bytes may be in memory together."""

_SWALLOWED = 8
"""How many times the limit is still taken in, and thrown away, so that a client gets to read why it
is refused: one that finds its connection closed while it sends sees no answer."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server takes on.

    Attributes:
        bytes: of an upload.
        pixels: of an image.
        seconds: for an upload to arrive, and again from then to the answer.
        queue: images a model that are accepted and not yet answered.
        batch: images that are computed at once.
        connections: that are open at once.
        drain: seconds that it goes on serving after it was told to stop, while `/health` says so.
    """

    bytes: int = 20_000_000
    pixels: int = 25_000_000
    seconds: float = 30.0
    queue: int = 64
    batch: int = 8
    connections: int = 500
    drain: float = 0.0

    def __post_init__(self) -> None:
        if not self.drain >= 0:
            raise UsageError(f"drain is {self.drain}, but must not be negative")
        for name, value in vars(self).items():
            if name != "drain" and not value > 0:
                raise UsageError(f"{name} is {value}, but must be more than 0")


class Refused(HTTPException):
    """A request that is answered with a status of 400 or more, and one line that says why."""

    def __init__(
        self, status: int, said: str, *, close: bool = False, retry: int | None = None
    ) -> None:
        headers = {"Connection": "close"} if close else {}
        if retry is not None:
            headers["Retry-After"] = str(retry)
        super().__init__(status, said, headers)


@dataclass
class Uploads:
    """Reads the bodies of requests, within the limits of all of them together.

    Attributes:
        limits: of the server.
        held: bytes of unfinished uploads that are in memory now.
    """

    limits: Limits
    held: int = field(default=0, init=False)

    async def read(self, request: Request) -> bytes:
        """The image file that a request brings, as its body or in a form.

        Raises:
            Refused: it is too large, too slow or malformed, or the server holds too much already.
        """
        self._check_length(request.headers)
        body = bytearray()
        thrown_away = 0
        try:
            async with asyncio.timeout(self.limits.seconds):
                async for chunk in request.stream():
                    if thrown_away or len(body) + len(chunk) > self.limits.bytes:
                        self.held -= len(body)
                        thrown_away += len(body) + len(chunk)
                        body.clear()
                        if thrown_away > self.limits.bytes * _SWALLOWED:
                            break
                        continue
                    self.held += len(chunk)
                    body += chunk
                    if self.held > self.limits.bytes * _UPLOADS_AT_ONCE:
                        raise Refused(
                            503, "too many uploads at once: try again", close=True, retry=1
                        )
            if thrown_away:
                raise self._too_large()
        except TimeoutError:
            raise Refused(
                408, f"the upload took more than {self.limits.seconds:g} seconds", close=True
            ) from None
        except ClientDisconnect:
            raise Refused(400, "the upload broke off", close=True) from None
        finally:
            self.held -= len(body)
        whole = bytes(body)
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            whole = await _file_of_form(request, whole)
        if not whole:
            raise Refused(400, "there is no image: send it as the body, or as a form's `image`")
        return whole

    def _check_length(self, headers: Mapping[str, str]) -> None:
        stated = headers.get("content-length", "0")
        if stated.isdecimal() and int(stated) > self.limits.bytes * _SWALLOWED:
            raise self._too_large()

    def _too_large(self) -> Refused:
        return Refused(413, f"the upload has more than {self.limits.bytes:,} bytes", close=True)


async def _file_of_form(request: Request, body: bytes) -> bytes:
    """The one file of a form that has been read."""

    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, once(), max_files=1, max_fields=8)
    parser.spool_max_size = len(body) + 1  # it is in memory, and stays there
    try:
        form = await parser.parse()
    except Exception as error:  # malformed in one of many ways
        raise Refused(400, "the form cannot be read: send one file as `image`") from error
    try:
        for _, value in form.multi_items():
            if isinstance(value, UploadFile):
                return await value.read()
    finally:
        await form.close()
    raise Refused(400, "the form has no file: send it as `image`")


def image_pixels(content: bytes, limits: Limits) -> int:
    """How many pixels an image file states to have; nothing is decoded.

    Raises:
        Refused: it is no image (415), is damaged (422), or has too many (413).
    """
    if not is_image(content[:16]):
        raise Refused(415, "this is no JPEG, PNG, TIFF, WebP, GIF or BMP image")
    try:
        with open_image(Content(content)) as image:
            pixels = image.width * image.height
    except UsageError as error:
        raise Refused(413 if isinstance(error, TooManyPixels) else 422, _said(error)) from error
    if pixels > limits.pixels:
        raise Refused(413, f"the image has more than {limits.pixels:,} pixels")
    if pixels == 0:
        raise Refused(422, "the image has no pixels")
    return pixels


def decode(content: bytes, spec: ImageSpec) -> Shaped[np.ndarray, "H W C"]:
    """The pixels of an image file, turned upright, as a model takes them.

    Raises:
        Refused: it is damaged, or is no image of the model's kind (422).
    """
    try:
        image = read_whole(Content(content), spec)
    except UsageError as error:
        raise Refused(422, _said(error)) from error
    except MemoryError:
        raise Refused(503, "no memory for this image now: try again", retry=5) from None
    pixels: Shaped[np.ndarray, "H W C"] = np.ascontiguousarray(image.numpy().transpose(1, 2, 0))
    return pixels


def _said(error: UsageError) -> str:
    """One line of plain signs, since an image may hold any text."""
    line = " ".join(str(error).split())[:300]
    return "".join(sign if sign.isprintable() else "?" for sign in line)
