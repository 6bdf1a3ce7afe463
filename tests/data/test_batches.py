"""Orders are pure functions of (seed, epoch) and ranks share them out; a loader hands out each batch once."""

import itertools

import numpy as np
import pytest
import torch

from costate.core.tasks import Classification
from costate.data.batches import InOrder, Rows, Shuffled, gather, reading
from costate.data.memory import InMemory, Parts, Standardise, divide


def batches(order, epoch=0):
    return [index.tolist() for index in order.epoch(epoch)]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


@pytest.mark.parametrize(("rows", "batch_size"), [(10, 3), (12, 4), (7, 7), (5, 1)])
def test_an_epoch_reads_each_row_at_most_once_in_full_batches(rows, batch_size):
    for epoch in range(3):
        read = batches(Shuffled(rows, batch_size, seed=0), epoch)
        assert [len(batch) for batch in read] == [batch_size] * (rows // batch_size)
        assert len(set(flat(read))) == len(flat(read))
        assert set(flat(read)) <= set(range(rows))


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    orders = {
        (seed, epoch): tuple(flat(batches(Shuffled(50, 5, seed), epoch))) for seed in range(4) for epoch in range(4)
    }
    torch.manual_seed(123)
    for (seed, epoch), order in orders.items():
        assert tuple(flat(batches(Shuffled(50, 5, seed), epoch))) == order
    assert len(set(orders.values())) == len(orders)


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_the_shares_of_all_ranks_make_the_joint_batch(replicas):
    joint = batches(Shuffled(40, 6, 0), epoch=2)
    shares = [batches(Shuffled(40, 6, 0, replica, replicas), epoch=2) for replica in range(replicas)]
    for i, batch in enumerate(joint):
        assert [share[i] for share in shares] == [batch[replica::replicas] for replica in range(replicas)]


@pytest.mark.parametrize(("rows", "batch_size"), [(1, 1), (10, 3), (11, 4), (1001, 500), (6, 500), (17, 2)])
@pytest.mark.parametrize("replicas", [1, 2, 3, 4])
def test_evaluation_reads_every_row_once_in_equally_many_batches_per_rank(rows, batch_size, replicas):
    if rows < replicas:
        with pytest.raises(ValueError, match=f"{rows} rows to evaluate are too few for {replicas} processes"):
            InOrder(rows, batch_size, 0, replicas)
        return
    shares = [batches(InOrder(rows, batch_size, replica, replicas)) for replica in range(replicas)]
    assert sorted(flat(flat(shares))) == list(range(rows))
    assert {len(share) for share in shares} == {len(InOrder(rows, batch_size, 0, replicas))}
    assert all(batch for share in shares for batch in share)
    assert all(batch == sorted(batch) for share in shares for batch in share)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((10, 11, 0), "data.batch_size=11 is more than there are training rows: choose at most 10."),
        ((10, 4, 0, 0, 3), "data.batch_size=4 cannot be shared out evenly among 3 processes: choose a multiple of 3."),
    ],
)
def test_impossible_batch_sizes_are_said(settings, message):
    with pytest.raises(ValueError, match="batch_size") as fault:
        Shuffled(*settings)
    assert str(fault.value) == message


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_gathering_is_indexing(dtype):
    x = torch.randint(0, 256, (9, 2, 3)).to(dtype)
    index = torch.tensor([4, 0, 8, 4])
    assert torch.equal(gather(x, index), x[index])
    assert gather(x, index).dtype == dtype


def loader(rows=10, batch_size=3, prepare=lambda x: x):
    x = torch.arange(2.0 * rows).view(rows, 2)
    return reading(Rows(x, torch.arange(rows)), Shuffled(rows, batch_size, seed=0), prepare)


def labels(pairs):
    return [y.tolist() for _, y in pairs]


def test_samples_keep_their_labels():
    for x, y in loader():
        assert torch.equal(x[:, 0], 2.0 * y)


def test_a_batch_is_nobody_elses_memory():
    read = loader()
    kept = list(read)
    copies = [(x.clone(), y.clone()) for x, y in kept]
    for x, y in read:
        x.zero_()
        y.zero_()
    for (x, y), (a, b) in zip(kept, copies, strict=True):
        assert torch.equal(x, a)
        assert torch.equal(y, b)
    assert labels(read) == labels(copies)


def test_a_pass_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    list(loader())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_a_restored_loader_goes_on_behind_the_last_batch(epoch, done):
    first = loader()
    first.set_epoch(epoch)
    passing = iter(first)
    seen = [next(passing) for _ in range(done)]
    second = loader()
    second.load_state_dict(first.state_dict())
    left = iter(second)  # Lightning makes the iterator before it says the epoch
    second.set_epoch(epoch)
    assert labels(seen) + labels(left) == labels(first)
    assert labels(second) == labels(first)  # only the first pass is shortened


def test_a_restored_place_is_of_its_epoch_only():
    first, second = loader(), loader()
    next(iter(first))
    second.load_state_dict(first.state_dict())
    for read in (first, second):
        read.set_epoch(1)
    assert labels(second) == labels(first)
    assert len(labels(second)) == len(second)


def test_the_place_does_not_depend_on_how_often_it_is_saved():
    read = loader()
    states = [read.state_dict()["batch"] for _ in iter(read) if read.state_dict() == read.state_dict()]
    assert states == [1, 2, 3]


@pytest.mark.parametrize("channels", [1, 3])
def test_standardised_training_rows_have_mean_0_and_variance_1(channels):
    x = torch.randint(0, 200, (50, channels, 4, 4), dtype=torch.uint8)
    x[:, 0] //= 3
    values = x.numpy().astype(np.float64)
    mean, deviation = values.mean((0, 2, 3), keepdims=True), values.std((0, 2, 3), keepdims=True)
    result = Standardise(x)(x)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), (values - mean) / deviation, atol=2e-6)


@pytest.mark.parametrize("x", [torch.full((5, 1, 2, 2), 7, dtype=torch.uint8), torch.full((5, 1), 0.1)])
def test_a_constant_channel_becomes_zero(x):
    assert torch.allclose(Standardise(x)(x), torch.zeros(x.shape), rtol=0, atol=1e-6)


def test_a_table_of_floats_is_standardised_as_pictures_are_if_its_class_says_so():
    """By the training rows alone; columns have units of their own."""
    x = torch.randn(60, 3) * torch.tensor([1.0, 1e3, 1e-3]) + torch.tensor([0.0, 5e4, 7.0])
    parts = Parts(*(Rows(part, torch.zeros(len(part), dtype=torch.long)) for part in x.split([40, 10, 10])))

    class Table(InMemory):
        standardised = True

        def read(self) -> Parts:
            return parts

    data = Table(batch_size=40, seed=0, shuffle_seed=0)
    data.describe((3,), Classification(2))
    data.setup()
    ((batch, _),) = data.train_dataloader()
    assert torch.allclose(batch.mean(0), torch.zeros(3), atol=1e-3)
    assert torch.allclose(batch.std(0, correction=0), torch.ones(3), atol=1e-3)
    ((held, _),) = data.val_dataloader()
    mean, deviation = parts.train.x.double().mean(0), parts.train.x.double().std(0, correction=0)
    assert torch.allclose(held.double(), (parts.validation.x.double() - mean) / deviation, atol=1e-2)


@pytest.mark.parametrize("train", [None, 5])
def test_parts_are_disjoint_and_held_out_rows_do_not_depend_on_the_training_rows(train):
    parts = [part.tolist() for part in divide(20, train, 4, 3, seed=1)]
    assert [len(part) for part in parts] == [train or 13, 4, 3]
    assert len(set(flat(parts))) == len(flat(parts))
    assert [part.tolist() for part in divide(20, 2, 4, 3, seed=1)][1:] == parts[1:]
    assert [part.tolist() for part in divide(20, train, 4, 3, seed=2)] != parts


def test_parts_that_are_too_large_are_said():
    with pytest.raises(ValueError, match="choose fewer") as fault:
        divide(20, None, 15, 5, seed=0)
    assert str(fault.value) == (
        "data.train=1, data.validation=15, data.test=5 ask for 21 rows and there are 20 to divide: choose fewer."
    )
    with pytest.raises(ValueError, match=r"data\.train=17, data\.validation=4 ask for 21 rows"):
        divide(20, 17, 4, 0, seed=0)
