"""Which samples make which batch: a function of the seed and the epoch, and of nothing else."""

from collections.abc import Iterator, Sequence

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
    """Batches of addresses, round by round; a round is an epoch, or a fixed number of batches.

    Every batch is full: the few samples left over at an epoch's end have their turn in another
    epoch.

    Args:
        length: samples of an epoch.
        batch_size: samples of a batch, at most `length`.
        seed: of all orders.
        sizes: of each sample, to put samples of like size into one batch; `None` mixes freely.
        round_batches: batches of a round, which then runs on from one epoch to the next; `None`
            makes each epoch a round.
        multiple: with epochs as rounds, what their batches are a multiple of.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        seed: int,
        sizes: Sequence[Size] | None = None,
        round_batches: int | None = None,
        multiple: int = 1,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.sizes = sizes
        self.epoch_batches = length // batch_size
        if round_batches is None:
            self.epoch_batches = self.epoch_batches // multiple * multiple
        self.round_batches = round_batches or self.epoch_batches
        assert self.epoch_batches > 0, "an epoch needs a batch"
        self.round = 0
        # Lightning announces the round to `batch_sampler.sampler`, and calls it the epoch.
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Choose the round that the next iteration goes through."""
        self.round = epoch

    def epoch_of(self, round_: int, batch: int) -> int:
        """The epoch in which a batch of a round lies."""
        return (round_ * self.round_batches + batch) // self.epoch_batches

    def __len__(self) -> int:
        return self.round_batches

    def __iter__(self) -> Iterator[list[Address]]:
        # Once, as loading processes ask for batches ahead while the round may be set anew.
        first = self.round * self.round_batches
        epoch, batches = -1, list[list[int]]()
        for batch in range(first, first + self.round_batches):
            now, place = divmod(batch, self.epoch_batches)
            if now != epoch:
                epoch, batches = now, self._batches(now)
            yield [(epoch, index) for index in batches[place]]

    def _batches(self, epoch: int) -> list[list[int]]:
        order = epoch_order(self.length, seed=self.seed, epoch=epoch)
        order = order[: self.epoch_batches * self.batch_size]
        if self.sizes is None:
            return self._cut(order)
        window = _WINDOW * self.batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), window):
            batches += self._cut(sorted(order[start : start + window], key=self.sizes.__getitem__))
        mixed = epoch_order(len(batches), seed=self.seed, epoch=epoch, purpose=_BATCH_ORDER)
        return [batches[place] for place in mixed]

    def _cut(self, order: list[int]) -> list[list[int]]:
        size = self.batch_size
        return [order[start : start + size] for start in range(0, len(order), size)]
