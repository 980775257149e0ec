"""The server: images in, masks out, over HTTP.

    GET  /           a page to drop a photo on
    POST /predict    an image in; JSON, the mask, its colours or an overlay out
    GET  /models     what is served: classes, colours, engines
    GET  /health     ready, or draining
    GET  /metrics    for Prometheus
    GET  /openapi.json

The event loop only moves bytes. Images are decoded and masks encoded in a few threads, and
computed in one thread a model (`serve_queue.py`); what is accepted at all is in `serve_limits.py`.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar, get_args

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from truemask import __version__
from truemask.errors import UsageError
from truemask.inference import serve_answers as answers
from truemask.inference.doubt import find_doubt, known_inputs
from truemask.inference.engine import available_cores
from truemask.inference.serve_answers import MEDIA, Format, as_tensor
from truemask.inference.serve_hosts import Hosts, OnlyHosts
from truemask.inference.serve_limits import Limits, Refused, Uploads, decode, image_pixels
from truemask.inference.serve_metrics import CONTENT_TYPE, Measured, Metrics
from truemask.inference.serve_page import Page
from truemask.inference.serve_queue import ModelQueue, Place, QueueFull, QueueSlow, ServedModel

T = TypeVar("T")

_PATHS = frozenset(("/", "/predict", "/models", "/health", "/metrics", "/openapi.json"))
_QUEUED_AT_ONCE = 8
"""Images of the largest size that a model's queue may hold decoded; of small ones more."""

_ABOUT = """Semantic segmentation: an image in, the class of each pixel out.

Send a JPEG, PNG, TIFF, WebP, GIF or BMP file as the body of `POST /predict`, or as `image` in a
form. Its EXIF orientation is respected. An image is refused where its pixels could only be guessed
at: with transparency, several frames, or 12 bits in 16."""

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {
        "description": "An unknown parameter, no image, an upload that broke off, or a name in "
        "`Host` that the server does not answer to"
    },
    404: {"description": "There is no such model"},
    408: {"description": "The upload took too long"},
    413: {"description": "Too many bytes or pixels"},
    415: {"description": "No image of a known format"},
    422: {"description": "A damaged image, or one that the model cannot take"},
    503: {
        "description": "The queue is full, or would take longer than the time limit: try again "
        "after `Retry-After` seconds"
    },
    504: {"description": "No answer within the time limit"},
}
_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {"image": {"type": "string", "format": "binary"}},
            }
        },
    },
}
_ANSWER = {
    "description": "What the model says of the image",
    "content": {
        "application/json": {
            "example": {
                "model": "roads", "width": 480, "height": 360, "confidence": 0.934,
                "classes": [
                    {"id": 0, "name": "sky", "color": "#56b4e9", "pixels": 43200, "share": 0.25}
                ],
                "unlikeness": 0.42, "warnings": [],
            }
        },
        "image/png": {"schema": {"type": "string", "format": "binary"}},
        "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
    },
}  # fmt: skip


class Service:
    """The models with their queues, and all that their requests share."""

    def __init__(self, models: Sequence[ServedModel], limits: Limits) -> None:
        assert len({model.name for model in models}) == len(models), "told apart by their names"
        for model in models:
            known_inputs(model.bundle)  # a damaged description fails here, and at no request
        self.limits = limits
        self.draining = False
        self.metrics = Metrics()
        self.uploads = Uploads(limits)
        self.queues = {
            model.name: ModelQueue(
                model,
                batch=limits.batch,
                images=limits.queue,
                pixels=limits.pixels * _QUEUED_AT_ONCE,
                seconds=limits.seconds,
                observe=self.metrics.batch.labels(model.name).observe,
            )
            for model in models
        }
        for queue in self.queues.values():
            self.metrics.watch(queue)
        self._threads = ThreadPoolExecutor(max(2, available_cores()), "images")

    def close(self) -> None:
        """Finish what was accepted, and end the threads."""
        for queue in self.queues.values():
            queue.close()
        self._threads.shutdown()

    def describe(self) -> list[dict[str, Any]]:
        """The models, as plain values."""
        return [
            {
                "name": queue.model.name,
                "engine": queue.model.engine.name,
                "classes": answers.describe_classes(queue.model.bundle.labels),
                "images": {
                    "channels": queue.model.engine.images.channels,
                    "dtype": queue.model.engine.images.dtype,
                },
            }
            for queue in self.queues.values()
        ]

    async def predict(
        self, request: Request, *, model: str | None, format: Format, mask: bool
    ) -> Response:
        """The answer to one upload.

        Raises:
            Refused: there is none, for a stated reason.
        """
        queue = self._queue(model)
        content = await self.uploads.read(request)
        try:
            async with asyncio.timeout(self.limits.seconds):
                pixels = await self._in_thread(lambda: image_pixels(content, self.limits))
                with queue.place(pixels) as place:
                    return await self._answer(queue, content, place, format=format, mask=mask)
        except QueueSlow as error:
            late = max(1, math.ceil(error.seconds - self.limits.seconds))
            raise Refused(
                503,
                f"with the images before it this one takes about {error.seconds:.0f} seconds, and "
                f"{self.limits.seconds:g} are allowed: try again",
                retry=late,
            ) from None
        except QueueFull:
            raise Refused(503, "the queue is full: try again", retry=1) from None
        except TimeoutError:
            raise Refused(504, f"no answer within {self.limits.seconds:g} seconds") from None

    async def _answer(
        self, queue: ModelQueue, content: bytes, place: Place, *, format: Format, mask: bool
    ) -> Response:
        model = queue.model
        spec, labels = model.engine.images, model.bundle.labels
        image = await self._in_thread(lambda: decode(content, spec))
        try:
            # The doubts while the image waits for its turn.
            found, doubt = await asyncio.gather(
                asyncio.wrap_future(queue.submit(image, place)),
                self._in_thread(lambda: find_doubt(model.bundle, as_tensor(image))),
            )
        except UsageError as error:  # values out of the model's range
            raise Refused(422, str(error)) from error
        self.metrics.pixels.labels(model.name).inc(found.ids.size)
        if doubt is not None and doubt.warning is not None:
            self.metrics.doubtful.labels(model.name).inc()

        def encoded() -> bytes:
            if format == "json":
                said = answers.answer_json(model, found, doubt, mask=mask)
                return json.dumps(said, ensure_ascii=False, allow_nan=False).encode()
            if format == "mask":
                return answers.mask_png(found.ids)
            if format == "color":
                return answers.color_png(found.ids, labels)
            return answers.overlay_jpeg(image, found.ids, spec, labels)

        body = await self._in_thread(encoded)
        headers = {"Cache-Control": "no-store"}
        if doubt is not None and doubt.warning is not None:
            headers["Truemask-Warning"] = doubt.warning  # for masks, which have no other place
        return Response(body, media_type=MEDIA[format], headers=headers)

    def _queue(self, name: str | None) -> ModelQueue:
        if name is None:
            return next(iter(self.queues.values()))
        if name not in self.queues:
            raise Refused(404, f"there is no such model: there are {', '.join(self.queues)}")
        return self.queues[name]

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def create_app(
    models: Sequence[ServedModel], limits: Limits, *, hosts: Hosts | None = None
) -> FastAPI:
    """The application that serves models; `app.state.service` is its `Service`.

    Args:
        models: at least one, told apart by their names; the first is the default.
        limits: what the server takes on.
        hosts: names that it answers to; by default all.

    Raises:
        UsageError: what a bundle says of its training images is damaged.
    """
    service = Service(models, limits)
    page = Page(service.describe(), limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.get_running_loop().run_in_executor(None, service.close)

    app = FastAPI(
        title="Truemask",
        description=_ABOUT,
        version=__version__,
        lifespan=lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.add_middleware(OnlyHosts, hosts=hosts or Hosts())
    app.add_middleware(
        Measured, metrics=service.metrics, paths=_PATHS, ending=lambda: service.draining
    )

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = str(first["loc"][-1])[:60]
        return JSONResponse({"detail": f"{name}: {first['msg']}"}, 400)

    @app.exception_handler(Exception)
    async def _failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the server failed at this request"}, 500)

    @app.post(
        "/predict",
        summary="The class of each pixel of an image",
        response_class=Response,
        responses={200: _ANSWER, **_REFUSALS},
        openapi_extra={"requestBody": _BODY},
    )
    async def predict(
        request: Request,
        format: Annotated[
            Format,
            Query(
                description="json: classes with their pixels and shares, confidence, warnings; "
                "mask: PNG whose grey levels are class ids; color: PNG in the classes' colours; "
                "overlay: JPEG of the image with the mask over it"
            ),
        ] = "json",
        model: Annotated[
            str | None, Query(description="Name of a model (`/models`); default: the first")
        ] = None,
        mask: Annotated[
            bool, Query(description="With format=json: also the mask, as base64 of its PNG")
        ] = False,
    ) -> Response:
        unknown = sorted(set(request.query_params) - {"format", "model", "mask"})
        if unknown:
            raise Refused(
                400, f"unknown parameter {unknown[0][:60]!r}: there are format, model and mask"
            )
        return await service.predict(request, model=model, format=format, mask=mask)

    @app.get("/models", summary="The models, their classes and colours")
    async def describe_models() -> list[dict[str, Any]]:
        return service.describe()

    @app.head("/health", include_in_schema=False)
    @app.get(
        "/health",
        summary="Whether requests are accepted",
        responses={503: {"description": "The server is about to stop"}},
    )
    async def health() -> JSONResponse:
        if service.draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "ready", "models": list(service.queues)})

    @app.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page.html, media_type="text/html; charset=utf-8", headers=page.headers)

    return app


assert set(get_args(Format)) == set(MEDIA)
