"""Check all parts of a dataset at once: each by itself, and against each other, in one pass.

```python
check_dataset("my_data")                                    # a folder, as `truemask train` takes it
check_dataset({"train": train_set, "val": val_set}, num_classes=5)    # anything with samples
```
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from truemask.checks import duplicates, parts
from truemask.checks.albums import Album, compare, is_training
from truemask.checks.contents import contents
from truemask.checks.file_probes import probe_files
from truemask.checks.finding import Finding, worst_first
from truemask.checks.mask_part import Meanings, meanings_of
from truemask.checks.mask_records import Record
from truemask.checks.masks import check_records, recorder
from truemask.checks.probe import Probe
from truemask.checks.probing import LIMIT, Samples, each, preserved_randomness, samples_of
from truemask.checks.series import clusters
from truemask.checks.sharing import Shared
from truemask.checks.similarity import file_thumbnail, thumbnail
from truemask.datasets.class_table import read_class_table
from truemask.datasets.pairing import Pair, match_files
from truemask.datasets.splitting import split_pairs
from truemask.errors import UsageError

MOST = 10_000
"""How many images of all parts together are searched for duplicates."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What is kept of a sample.

    Attributes:
        record: what the rules of a single part ask for.
        cells: the thumbnail of its image; None where that could not be read.
    """

    record: Record
    cells: Float32[np.ndarray, "S S"] | None


def check_dataset(
    dataset_or_parts: Any,
    *,
    num_classes: int | None = None,
    ignore_index: int | None = 255,
    class_names: Sequence[str] | None = None,
    loss: Callable[..., Any] | None = None,
    train_size: tuple[int, int] | None = None,
    limit: int = LIMIT,
    most: int = MOST,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Finding]:
    """Check images and masks: each part by itself, and all parts against each other.

    Args:
        dataset_or_parts: a folder, divided as `truemask train` divides it; a mapping from the names
            of parts to datasets, such as Truemask's `Parts`; or a single dataset. A dataset is
            anything that `probing.samples_of` understands: a folder, a list of files, or what has a
            length and an index and gives (image, mask), or a mapping with these.
        num_classes: how many classes there are; None to tell by the data's label map or its values.
        ignore_index: the id of pixels that neither train nor count; None for none.
        class_names: in the order of ids, for messages.
        loss: what is to be trained with, called with (logits, target); None says nothing of it.
        train_size: height and width that masks are resized to for training; None for their own.
        limit: of a part with more samples, so many are drawn and read.
        most: so many images of all parts together are searched for duplicates.
        seed: of what is drawn.
        progress: called with (done, total) samples.

    Returns:
        The findings, the worst first; none for sound data.

    Raises:
        UsageError: this is no dataset, or it is empty.
    """
    sources = sources_of(dataset_or_parts)
    samples = {name: source(limit, seed) for name, source in sources.items()}
    seen = _look(samples, train_size, progress)
    albums = {
        name: _album(source(most_of, seed), samples[name], seen[name])
        for (name, source), most_of in zip(
            sources.items(), _quotas([one.total for one in samples.values()], most), strict=True
        )
    }
    findings: list[Finding] = []
    if len(albums) > 1:
        shared = [Shared(comparison) for comparison in compare(albums)]
        for rule in duplicates.RULES:
            findings += rule(shared)
    told: dict[str, Any] = {
        "num_classes": num_classes,
        "ignore_index": ignore_index,
        "class_names": class_names,
    }
    for name, one in samples.items():
        records = [found.record for found in seen[name]]
        findings += check_records(one, records, name=name, loss=loss, train_size=train_size, **told)
    if len(samples) > 1:
        findings += _of_contents(samples, seen, _meanings(samples, seen, told))
    return worst_first(findings)


Source = Callable[[int, int], Samples]
"""Gives the samples of a part: at most so many, drawn with a seed."""


def sources_of(dataset_or_parts: Any) -> dict[str, Source]:
    """The parts of whatever `check_dataset` takes, by name.

    Raises:
        UsageError: a mapping of parts is empty.
    """
    if isinstance(dataset_or_parts, str | Path):
        return _of_folder(Path(dataset_or_parts))
    if isinstance(dataset_or_parts, Mapping):
        if not dataset_or_parts:
            raise UsageError("there are no parts to check: the mapping is empty")
        return {str(name): _source(part) for name, part in dataset_or_parts.items()}
    return {"": _source(dataset_or_parts)}


def _source(part: Any) -> Source:
    return lambda limit, seed: samples_of(part, limit=limit, seed=seed)


def _of_folder(root: Path) -> dict[str, Source]:
    """The parts on disk, or those that `truemask train` would make; lone files are the first's."""
    matching = match_files(root)
    try:
        divided, _ = split_pairs(matching.pairs, root, shares=(0.7, 0.15, 0.15), seed=0)
    except UsageError:
        divided = {}
    if len(divided) < 2:
        return {"": _source(root)}
    table = root / "classes.json"
    labels = read_class_table(table) if table.exists() else None

    def source(part: str, pairs: Sequence[Pair]) -> Source:
        first = part == next(iter(divided))
        return lambda limit, seed: replace(
            samples_of(list(pairs), limit=limit, seed=seed),
            labels=labels,
            lonely_images=matching.lonely_images if first else (),
            lonely_masks=matching.lonely_masks if first else (),
        )

    return {part: source(part, pairs) for part, pairs in divided.items()}


def _look(
    samples: Mapping[str, Samples],
    train_size: tuple[int, int] | None,
    progress: Progress | None,
) -> dict[str, list[_Seen]]:
    """Read the samples of all parts, each once."""
    total, done = sum(len(one) for one in samples.values()), 0
    seen: dict[str, list[_Seen]] = {}
    for name, one in samples.items():
        seen[name] = []
        for found in each(one, partial(_see, recorder(one, train_size=train_size))):
            seen[name].append(found)
            done += 1
            if progress is not None:
                progress(done, total)
    return seen


def _see(record: Callable[[Probe], Record], probe: Probe) -> _Seen:
    cells = None if probe.image is None else thumbnail(probe.image)
    return _Seen(record=record(probe), cells=cells)


def _quotas(totals: Sequence[int], most: int) -> list[int]:
    """How many images of each part are compared: small parts whole, of the others equal numbers."""
    quotas, left = [0] * len(totals), most
    order = sorted(range(len(totals)), key=lambda place: totals[place])
    for done, place in enumerate(order):
        quotas[place] = max(1, min(totals[place], left // (len(totals) - done)))
        left -= quotas[place]
    return quotas


def _album(whole: Samples, looked: Samples, seen: Sequence[_Seen]) -> Album:
    """The thumbnails of a part: those of the samples that were read, and of the others' images."""
    known = (
        {one.record.name: one.cells for one in seen}
        if len(set(looked.names)) == len(looked)
        else {}
    )
    missing = [place for place, name in enumerate(whole.names) if name not in known]
    files = whole.files if len(whole.files) == len(whole) else ()

    def read(place: int) -> Probe:
        image = files[missing[place]][0] if files else None
        if image is None:
            return whole.read(missing[place])
        return Probe(name=whole.names[missing[place]], image_path=image)

    others = replace(whole, names=tuple(whole.names[place] for place in missing), read=read)
    cells = [known.get(name) for name in whole.names]
    for place, found in zip(missing, each(others, _cells), strict=True):
        cells[place] = found
    readable = [place for place, one in enumerate(cells) if one is not None]
    return Album(
        names=tuple(whole.names[place] for place in readable),
        thumbnails=np.array([cells[place] for place in readable], np.float32).reshape(-1, 64, 64),
        read=lambda place: _read_again(whole, readable[place]),
        total=whole.total,
    )


def _read_again(samples: Samples, place: int) -> Probe:
    """A sample once more; its dataset may draw random numbers, which are the caller's."""
    with preserved_randomness():
        return samples.read(place)


def _cells(probe: Probe) -> Float32[np.ndarray, "S S"] | None:
    """The thumbnail of an image that was read, or is still to be."""
    if probe.image is None and probe.image_path is not None and probe.fault is None:
        small = file_thumbnail(probe.image_path)
        if small is not None:
            return small
        probe = probe_files(probe.image_path, None, name=probe.name)
    return None if probe.image is None else thumbnail(probe.image)


def _meanings(
    samples: Mapping[str, Samples], seen: Mapping[str, Sequence[_Seen]], told: Mapping[str, Any]
) -> dict[str, Meanings]:
    """What values mean in each part: one may come from files, another one as class ids."""
    records = {name: [found.record for found in part] for name, part in seen.items()}
    found = {name: meanings_of(one, records[name], **told) for name, one in samples.items()}
    if all(one.told for one in found.values()) and len({one.names for one in found.values()}) == 1:
        return found
    together = [record for part in records.values() for record in part]
    return dict.fromkeys(samples, meanings_of(next(iter(samples.values())), together, **told))


def _of_contents(
    samples: Mapping[str, Samples],
    seen: Mapping[str, Sequence[_Seen]],
    meanings: Mapping[str, Meanings],
) -> list[Finding]:
    """What the rules on amounts of classes find."""
    amounts = {}
    for name, part in seen.items():
        readable = [one for one in part if one.record.values is not None]
        cells = [one.cells for one in readable if one.cells is not None]
        grouped = np.arange(len(readable))
        if cells and len(cells) == len(readable):
            grouped = clusters([one.record.name for one in readable], np.stack(cells))
        records = [one.record for one in readable]
        amounts[name] = contents(records, grouped, meanings[name], total=samples[name].total)
    train = next((name for name in amounts if is_training(name)), next(iter(amounts)))
    findings: list[Finding] = []
    for rule in parts.RULES:
        findings += rule(amounts, train=train, class_names=meanings[train].names)
    return findings
