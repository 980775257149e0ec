"""Pages that show results: one HTML file each, which works offline and loads nothing.

Names of classes and files, settings and notes are anybody's text: the templates escape all of
them, and the page's content security policy lets no script run but the page's own.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from truemask.files import write_text
from truemask.labels import LabelMap
from truemask.report import figures, formats, pictures
from truemask.report.content import Finding, read_content
from truemask.report.pictures import QUALITIES, Picture, Quality
from truemask.runs import Run, RunSample

MOST_BYTES = 8_000_000
"""A report stays below this, so that it can be mailed."""

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("page.js", "gallery.js", "film.js")
_MOST_SAMPLES = {"train": 8, "best": 4, "typical": 2, "worst": 4}


def render_report(run: Run) -> Path:
    """Write the report of a run, also of one that was killed: it then says what is missing.

    Returns:
        The path of the page, `run.report_path`.

    Raises:
        UsageError: the page cannot be written.
    """
    content = read_content(run)
    for quality in QUALITIES:
        samples = _shown(content.samples, content.labels, quality)
        evidence = [_evidence(finding, quality) for finding in content.findings]
        shown = {"samples": samples, "evidence": evidence, "colors_of": content.colors}
        page = render_page("report.html", vars(content) | shown)
        if len(page.encode()) < MOST_BYTES:
            break
    write_text(run.report_path, page)
    return run.report_path


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """The page that a template which extends `page.html` makes of `context`."""
    return _environment().get_template(template).render(**context, **_script())


def _script() -> dict[str, str]:
    """The only script that the page lets run, and the digest that lets it."""
    script = "\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return {"script": Markup(script), "script_hash": f"sha256-{digest}"}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "compact", "percent", "count", "part"):
        environment.filters[name] = getattr(formats, name)
    environment.globals |= {"interval_bar": figures.interval_bar, "error_colors": pictures}
    return environment


@dataclass(frozen=True)
class _Shown:
    """A sample and its pictures, each with its name."""

    sample: RunSample
    pictures: tuple[tuple[str, Picture], ...]


def _shown(
    samples: Sequence[RunSample], labels: LabelMap | None, quality: Quality
) -> dict[str, list[_Shown]]:
    """Kind -> its first few samples; none without a label map, which knows the colours."""
    shown: dict[str, list[_Shown]] = {kind: [] for kind in _MOST_SAMPLES}
    if labels is None:
        return shown
    for kind, most in _MOST_SAMPLES.items():
        for sample in [sample for sample in samples if sample.kind == kind][:most]:
            shown[kind].append(_Shown(sample, tuple(_pictures(sample, labels, quality))))
    return shown


def _pictures(sample: RunSample, labels: LabelMap, quality: Quality) -> list[tuple[str, Picture]]:
    drawn = [
        ("Image", pictures.photo(sample.image, quality)),
        ("Truth", pictures.mask(sample.truth, labels, quality)),
    ]
    if sample.prediction is not None:
        errors = pictures.errors(sample.image, sample.truth, sample.prediction, labels, quality)
        drawn.append(("Prediction", pictures.mask(sample.prediction, labels, quality)))
        drawn.append(("Errors", errors))
    return drawn


def _evidence(finding: Finding, quality: Quality) -> list[tuple[str, Picture]]:
    """The pictures of a finding, each with its caption."""
    return [(caption, pictures.photo(pixels, quality)) for caption, pixels in finding.pictures]
