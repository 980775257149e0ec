import torch
from hypothesis import given
from hypothesis import strategies as st

from truemask.data.randomness import address_seed, epoch_order, seeded

whole = st.integers(0, 2**31)


@given(whole, whole, st.integers(0, 500))
def test_order_is_a_permutation_and_a_function_of_seed_and_epoch(seed, epoch, length) -> None:
    order = epoch_order(length, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(length))
    assert order == epoch_order(length, seed=seed, epoch=epoch)


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(epoch_order(50, seed=s, epoch=e)) for s in range(5) for e in range(5)}
    assert len(orders) == 25


def test_addresses_do_not_collide() -> None:
    seeds = {address_seed(s, e, i) for s in range(3) for e in range(30) for i in range(300)}
    assert len(seeds) == 3 * 30 * 300


def test_seeded_leaves_the_generator_as_it_was() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(5, 6):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(3), expected)
    with seeded(5, 6):
        assert torch.equal(torch.rand(4), inside)
    with seeded(5, 7):
        assert not torch.equal(torch.rand(4), inside)
