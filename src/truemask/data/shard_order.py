"""The order in which a training goes through shards: few of them at a time, and still shuffled."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from torch.utils.data import Sampler

from truemask.data.batches import Address, EpochBatches
from truemask.data.cache import Cache
from truemask.data.randomness import epoch_order
from truemask.data.views import View, Wrapped
from truemask.datasets.sample import SegmentationDataset
from truemask.datasets.shards import ShardDataset

_PURPOSE = 2
"""Tells the seed of this order from those of others."""

_LEAST_AHEAD, _MOST_AHEAD = 4, 256


def shard_order(lengths: Sequence[int], *, seed: int, epoch: int, window: int) -> list[int]:
    """`group_order` of samples that lie one after the other in shards of these lengths."""
    groups = [shard for shard, length in enumerate(lengths) for _ in range(length)]
    return group_order(groups, seed=seed, epoch=epoch, window=window)


def group_order(groups: Sequence[int], *, seed: int, epoch: int, window: int) -> list[int]:
    """A shuffled order of all samples that needs the shards one after the other.

    The shards are shuffled. Then the samples are drawn from `window` of them at any time, equally
    often from each; one shard leaves as another comes. The last ones of the order share the
    beginning, so that there too samples of `window` shards are mixed, and are needed again at the
    end. A cache of `window` shards and a few to spare so fetches each shard of `S` about once, and
    `S + window` in all.

    Args:
        groups: the shard of each sample.
        seed: of all orders.
        epoch: whose order it is.
        window: shards in use at a time. With all shards in the window the order is `epoch_order`,
            that of data that is not sharded.

    Returns:
        The samples' indices, a function of the arguments and of nothing else.
    """
    assert window >= 1
    shards, place = np.unique(np.asarray(groups, dtype=np.int64), return_inverse=True)
    if window >= len(shards):
        return epoch_order(len(place), seed=seed, epoch=epoch)
    generator = np.random.default_rng(np.random.SeedSequence((seed, epoch, _PURPOSE)))
    # A shard that enters at the time t spreads its samples over t to t + window.
    enters = generator.permutation(len(shards))
    times = (enters[place] + window * generator.random(len(place))) % len(shards)
    return [int(index) for index in np.argsort(times, kind="stable")]


@dataclass(frozen=True)
class Sharded:
    """What a training asks of samples that lie in shards.

    Attributes:
        groups: the shard of each sample.
        window: shards to draw from at a time.
        prefetch: called with a shard, to fetch it in the background.
    """

    groups: Sequence[int]
    window: int
    prefetch: Callable[[int], None]


def sharded(dataset: SegmentationDataset) -> Sharded | None:
    """The shards of a dataset, whatever views and caches are around it.

    None where samples lie in no shards, or these are to be read in any order (`window=null`).
    """
    if isinstance(dataset, ShardDataset):
        if dataset.window is None:
            return None
        return Sharded(dataset.groups, dataset.window, dataset.prefetch)
    if isinstance(dataset, Wrapped | Cache):
        return sharded(dataset.dataset)
    return _of_view(dataset) if isinstance(dataset, View) else None


def _of_view(view: View) -> Sharded | None:
    """The shards of all sources, counted one after the other."""
    found = [sharded(source) for source in view.sources]
    sources = [one for one in found if one is not None]
    if len(sources) < len(found):
        return None
    starts = list(accumulate((max(one.groups) + 1 for one in sources), initial=0))

    def prefetch(group: int) -> None:
        source = bisect_right(starts, group) - 1
        sources[source].prefetch(group - starts[source])

    groups = [starts[source] + sources[source].groups[index] for source, index in view.places]
    return Sharded(groups, sources[0].window, prefetch)


class PrefetchedBatches(Sampler[list[Address]]):
    """Batches, looked at a while before their turn, so that their shards are fetched by then.

    Args:
        batches: those of a training.
        samples: the shards of what the indices are of.
    """

    def __init__(self, batches: EpochBatches, samples: Sharded) -> None:
        self.batches = batches
        self.samples = samples

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Address]]:
        groups = self.samples.groups
        per_shard = len(groups) // len(set(groups))
        waiting = deque[list[Address]]()
        for batch in self.batches:
            for group in dict.fromkeys(groups[index] for _, index in batch):
                self.samples.prefetch(group)
            waiting.append(batch)
            # As long as the samples of one shard last, of which each process takes a share.
            ahead = per_shard // (len(batch) * self.batches.processes)
            while len(waiting) > min(max(ahead, _LEAST_AHEAD), _MOST_AHEAD):
                yield waiting.popleft()
        yield from waiting
