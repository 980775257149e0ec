"""Which samples make which batch: a function of the seed and the epoch, and of nothing else."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch.utils.data import Sampler

from truemask.data.randomness import epoch_order

Address = tuple[int, int]
"""Epoch and index: all that a training sample is a function of, beside the seed."""

Size = tuple[int, int]
"""Height and width in pixels."""

_WINDOW = 50
"""Batches whose samples are sorted by size together: enough to pad little, and still shuffled."""

_BATCH_ORDER = 1
"""Tells the seed of the order of batches from that of the order of samples."""


class EpochBatches(Sampler[list[Address]]):
    """The samples of each optimiser step, round by round.

    A step takes `accumulate` batches of `batch_size` samples; of several processes each takes its
    share of every batch. A round is an epoch, or a fixed number of steps. Every batch is full: the
    few samples left over at an epoch's end have their turn in another epoch.

    Args:
        length: samples of an epoch.
        batch_size: samples of a batch over all processes, at most `length`.
        seed: of all orders.
        sizes: of each sample, to put samples of like size into one batch; `None` mixes freely.
        round_steps: steps of a round, which then runs on from one epoch to the next; `None` makes
            each epoch a round.
        accumulate: batches of a step.
        rank: which process this is.
        processes: how many there are, at most `batch_size`.
        order: called as `order(epoch=...)`, for the order of its samples; by default all are
            shuffled.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        seed: int,
        sizes: Sequence[Size] | None = None,
        round_steps: int | None = None,
        accumulate: int = 1,
        rank: int = 0,
        processes: int = 1,
        order: Callable[..., list[int]] | None = None,
    ) -> None:
        assert processes <= batch_size, "each process needs a sample of every batch"
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.sizes = sizes
        self.accumulate = accumulate
        self.rank = rank
        self.processes = processes
        self.shuffled = order is None
        self.order = order or partial(epoch_order, length, seed=seed)
        self.epoch_batches = length // batch_size
        if round_steps is None:
            self.epoch_batches = self.epoch_batches // accumulate * accumulate
        self.round_steps = round_steps or self.epoch_batches // accumulate
        assert self.epoch_batches > 0, "an epoch needs a batch"
        self.round = 0
        self.done = 0

    @property
    def share(self) -> int:
        """Samples of a batch that fall to this process."""
        return len(range(self.rank, self.batch_size, self.processes))

    def go_to(self, round_: int, done: int = 0) -> None:
        """Choose the round that the next iteration goes through, and the steps of it to leave out.

        As every sample is known by its address, nothing has to be read to get there.
        """
        self.round = round_
        self.done = done

    def epoch_of(self, round_: int, step: int) -> int:
        """The epoch in which the last batch of a step of a round lies."""
        batches = (round_ * self.round_steps + step + 1) * self.accumulate
        return (batches - 1) // self.epoch_batches

    def __len__(self) -> int:
        return self.round_steps - self.done

    def __iter__(self) -> Iterator[list[Address]]:
        # Once, as loading processes ask for batches ahead while the round may be set anew.
        first = (self.round * self.round_steps + self.done) * self.accumulate
        steps = self.round_steps - self.done
        epoch, batches = -1, list[list[int]]()
        for step in range(steps):
            addresses: list[Address] = []
            for batch in range(self.accumulate):
                now, place = divmod(first + step * self.accumulate + batch, self.epoch_batches)
                if now != epoch:
                    epoch, batches = now, self._batches(now)
                mine = batches[place][self.rank :: self.processes]
                addresses += [(epoch, index) for index in mine]
            yield addresses

    def _batches(self, epoch: int) -> list[list[int]]:
        order = self.order(epoch=epoch)[: self.epoch_batches * self.batch_size]
        if self.sizes is None:
            return self._cut(order)
        window = _WINDOW * self.batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), window):
            batches += self._cut(sorted(order[start : start + window], key=self.sizes.__getitem__))
        # An order that is not free, as that through shards, is kept but for a window.
        block = len(batches) if self.shuffled else _WINDOW
        mixed: list[list[int]] = []
        for start in range(0, len(batches), block):
            some = batches[start : start + block]
            address = _BATCH_ORDER + start // block
            order = epoch_order(len(some), seed=self.seed, epoch=epoch, purpose=address)
            mixed += [some[place] for place in order]
        return mixed

    def _cut(self, order: list[int]) -> list[list[int]]:
        size = self.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]
