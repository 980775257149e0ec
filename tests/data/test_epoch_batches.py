import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truemask.data.batches import EpochBatches


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 400),
    batch_size=st.integers(1, 9),
    rounds=st.integers(1, 23),
    sized=st.booleans(),
)
def test_rounds_run_through_the_epochs_as_they_are(length, batch_size, rounds, sized) -> None:
    batch_size = min(batch_size, length)
    sizes = [(i % 3, i % 5) for i in range(length)] if sized else None
    by_epoch = EpochBatches(length, batch_size=batch_size, seed=3, sizes=sizes)
    by_round = EpochBatches(length, batch_size=batch_size, seed=3, sizes=sizes, round_steps=rounds)
    expected = []
    for epoch in range(3):
        by_epoch.go_to(epoch)
        expected += list(by_epoch)
    found = []
    for number in range(len(expected) // rounds):
        by_round.go_to(number)
        batches = list(by_round)
        assert len(batches) == len(by_round) == rounds
        assert [by_round.epoch_of(number, i) for i in range(rounds)] == [b[0][0] for b in batches]
        found += batches
    assert found == expected[: len(found)]


@pytest.mark.parametrize("sized", [False, True])
def test_an_epoch_takes_each_sample_at_most_once_and_leaves_less_than_a_batch(sized) -> None:
    sizes = [(i % 7, i % 3) for i in range(103)] if sized else None
    batches = EpochBatches(103, batch_size=8, seed=0, sizes=sizes)
    seen = [index for batch in batches for _, index in batch]
    assert len(seen) == len(set(seen)) == 96
    batches.go_to(1)
    assert [index for batch in batches for _, index in batch] != seen


def test_with_epochs_as_rounds_their_batches_are_a_multiple() -> None:
    batches = EpochBatches(100, batch_size=8, seed=0, accumulate=5)
    assert len(batches) == len(list(batches)) == 2
    assert [len(step) for step in batches] == [40, 40]


def padded_share(batches: EpochBatches, sizes: list[tuple[int, int]]) -> float:
    used = total = 0
    for batch in batches:
        rows, columns = np.array([sizes[index] for _, index in batch]).T
        used += int((rows * columns).sum())
        total += len(batch) * int(rows.max() * columns.max())
    return 1 - used / total


def test_batches_by_size_pad_little_and_are_still_mixed() -> None:
    random = np.random.default_rng(0)
    # The sizes of PASCAL VOC: one side is 500, the other mostly 333 or 375.
    short = random.choice([333, 375, 500, 281, 334, 400], 800, p=[0.3, 0.4, 0.1, 0.1, 0.05, 0.05])
    upright = random.random(800) < 0.3
    sizes = [(500, int(s)) if up else (int(s), 500) for s, up in zip(short, upright, strict=True)]
    plain = padded_share(EpochBatches(800, batch_size=8, seed=0), sizes)
    bucketed = EpochBatches(800, batch_size=8, seed=0, sizes=sizes)
    assert padded_share(bucketed, sizes) < 0.02 < 0.2 < plain
    first, second = [frozenset(i for _, i in batch) for batch in bucketed], []
    bucketed.go_to(1)
    second = [frozenset(i for _, i in batch) for batch in bucketed]
    assert not set(first) & set(second)
    # Not all small ones first: the batches come in a random order.
    areas = [np.mean([sizes[i][0] * sizes[i][1] for i in batch]) for batch in first]
    assert areas != sorted(areas)
