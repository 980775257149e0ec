"""The page at `/`: one file, which loads nothing but what it asks this server."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from truemask.inference.serve_limits import Limits
from truemask.report import pages

_TEMPLATES = Path(pages.__file__).parent / "templates"


class Page:
    """The page of a server.

    Args:
        models: as `/models` describes them. Names of classes are anybody's text: they reach the
            page as JSON, and its script writes them as text.
        limits: what the server takes on; the page says it before it sends.
    """

    def __init__(self, models: Sequence[dict[str, Any]], limits: Limits) -> None:
        self._style = "\n".join(_read(name) for name in ("style.css", "serve.css"))
        self._script = _read("serve.js")
        said = {"models": list(models), "bytes": limits.bytes, "pixels": limits.pixels}
        # No sign of HTML: an end tag within would end the block.
        text = json.dumps(said).replace("<", "\\u003c").replace("&", "\\u0026")
        self._data = Markup(text.replace(">", "\\u003e"))

    @cached_property
    def html(self) -> str:
        """The page."""
        environment = Environment(
            loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
        )
        return environment.get_template("serve.html").render(
            style=Markup(self._style), script=Markup(self._script), data=self._data
        )

    @property
    def headers(self) -> dict[str, str]:
        """What the browser may do on this page, and nothing else."""
        return {
            "Content-Security-Policy": "; ".join(
                (
                    "default-src 'none'",
                    f"script-src '{_digest(self._script)}'",
                    f"style-src '{_digest(self._style)}'",
                    "img-src 'self' blob: data:",
                    "media-src blob:",
                    "connect-src 'self'",
                    "base-uri 'none'",
                    "form-action 'none'",
                    "frame-ancestors 'none'",
                )
            ),
            "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
            "Cache-Control": "no-cache",
        }


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
