"""A dataset's statistics in one pass.

OUT/survey.json   the result
"""

import time
from collections.abc import Callable, Mapping, Sequence

from truemask.analysis.survey_pass import Source, count_blocks, count_parts
from truemask.analysis.survey_result import Survey
from truemask.analysis.survey_summary import summarise
from truemask.datasets.sample import SegmentationDataset
from truemask.errors import UsageError


def survey(
    parts: Mapping[str, SegmentationDataset],
    *,
    name: str,
    notes: Sequence[str] = (),
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Count everything that is to be known of a dataset.

    Args:
        parts: part name -> dataset; all share label map and kind of images.
        name: what to call the data.
        notes: for the reader.
        processes: how many count; None for one a core.
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
    source = Source.of(parts)
    counts, decoded = count_parts(
        source, count_blocks(source, processes=processes), progress=progress
    )
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
