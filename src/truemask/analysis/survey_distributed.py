"""The counting of a survey on all machines of a Ray cluster, by Ray Data: the same numbers.

The data lie where all machines see them, under the same path.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from rich.console import Console

from truemask.analysis.survey_pass import Block, Counted, Source
from truemask.cluster import call_on_cluster, describe, joined, require_shared, shared
from truemask.errors import UsageError


def count_on_ray(
    source: Source, out: Path, *, address: str = "auto", console: Console | None = None
) -> Iterator[Counted]:
    """Count all blocks, in any order; those of a process that dies are counted by another.

    Args:
        source: the parts.
        out: a folder that all machines share, by which it is told whether they see one disk.
        address: of the cluster, see `cluster.joined`.
        console: where to say what the cluster has.

    Raises:
        UsageError: the cluster cannot be joined, or does not see `out` or this process's folder.
    """
    with joined(address) as machines, shared(out.absolute()) as mark:
        if console is not None:
            console.print(describe(machines), highlight=False)
        make = partial(_counter, source=source, mark=mark, folder=Path.cwd())
        for called in call_on_cluster(make, source.blocks()):
            yield called.value


def _counter(*, source: Source, mark: Path, folder: Path) -> Callable[[Block], Counted]:
    """What a process of the cluster does with a block."""
    require_shared(mark)
    try:
        os.chdir(folder)  # paths of the data may be relative to it
    except OSError as error:
        raise UsageError(
            f"a machine of the cluster does not see {folder}: run this in a folder that all share"
        ) from error
    return source.count
