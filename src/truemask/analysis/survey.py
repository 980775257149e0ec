"""A dataset's statistics in one pass.

OUT/survey.json   the result
OUT/survey.html   the page
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from truemask.analysis.survey_cache import CountsCache
from truemask.analysis.survey_pass import Counted, Source, count_blocks, count_parts
from truemask.analysis.survey_result import FORMAT, Survey
from truemask.analysis.survey_summary import summarise
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import UsageError
from truemask.files import make_folder, require_replaceable, write_text

Counting = Callable[[Source], Iterator[Counted]]
"""All blocks of a source, counted, in any order."""

RESULT, PAGE = "survey.json", "survey.html"


def survey(
    parts: Mapping[str, SegmentationDataset],
    *,
    name: str,
    notes: Sequence[str] = (),
    processes: int | None = None,
    cache: CountsCache | None = None,
    count: Counting | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Count everything that is to be known of a dataset.

    Args:
        parts: part name -> dataset; all share label map and kind of images.
        name: what to call the data.
        notes: for the reader.
        processes: how many count; None for one a core.
        cache: of counts from earlier surveys; None decodes every image.
        count: how to count all blocks of a source, elsewhere than by processes of this machine.
        progress: called with (done, total) samples.

    Raises:
        UsageError: no sample can be used, or samples are generated without end.
    """
    if any(getattr(part, "endless", False) for part in parts.values()):
        raise UsageError(
            "this data is generated anew for every epoch, and has no end to be counted to: survey "
            "a dataset of files"
        )
    started = time.perf_counter()
    source = Source.of(parts, cache=cache)
    counting = count_blocks(source, processes=processes) if count is None else count(source)
    counts, decoded = count_parts(source, counting, progress=progress)
    if cache is not None:
        cache.trim()
    first = next(iter(parts.values()))
    return summarise(
        counts,
        name=name,
        labels=first.labels,
        spec=first.images,
        notes=notes,
        seconds=time.perf_counter() - started,
        counted=decoded,
    )


def require_ours(out: Path) -> None:
    """Hold a folder against what a survey would write into it.

    Raises:
        UsageError: a file of that name is there, and no survey made it.
    """
    require_replaceable(
        out / RESULT, out / PAGE, maker="survey", ours=lambda found: found.get("format") == FORMAT
    )


def survey_text(result: Survey) -> str:
    """The result as JSON in one line: with a line for each cell of each heatmap none could read."""
    plain = result.to_json()
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def save_survey(result: Survey, out: Path) -> None:
    """Write the result into a folder, which is made where it is missing.

    Raises:
        UsageError: it cannot be written.
    """
    make_folder(out)
    write_text(out / RESULT, survey_text(result) + "\n")
