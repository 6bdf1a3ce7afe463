"""What goes up a boundary: letters have the sizes that were made room for, and say what their equation says."""

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest
import torch

import costate.methods
from costate.core.post import Gradient, GradientAndState, OutputError, Passage, Post
from costate.core.tasks import Classification, Regression
from costate.execution.messages import packed, unpacked
from costate.methods.compression import Coded, Largest, Sign, coding

ROWS, OUTPUTS, HALF = 5, 3, torch.bfloat16
TASK = Classification(OUTPUTS)
MADE = {Largest: lambda kind: kind(0.2), Coded: lambda kind: kind(GradientAndState(), coding("int8"))}


def kinds(kind: type[Post] = Post) -> Iterator[type[Post]]:
    for each in kind.__subclasses__():
        yield each
        yield from kinds(each)


for found in pkgutil.iter_modules(costate.methods.__path__, "costate.methods."):
    import_module(found.name)
KINDS = [kind for kind in kinds() if kind.__module__.startswith("costate.")]


def made(kind: type[Post]) -> Post:
    if kind in MADE:
        return MADE[kind](kind)
    return kind(TASK) if "task" in inspect.signature(kind).parameters else kind()


def passage(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, behind: torch.dtype | None = None) -> Passage:
    random = torch.Generator().manual_seed(0)
    x, g = (torch.randn(ROWS, *shape, generator=random).to(dtype) for _ in range(2))
    output = torch.randn(ROWS, OUTPUTS, generator=random).to(behind or dtype)
    return Passage(x, g, output, torch.arange(ROWS) % OUTPUTS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(7,), (16,), (2, 3, 3)])
@pytest.mark.parametrize(
    ("dtype", "behind"), [(kind, kind) for kind in (torch.float32, torch.float64, HALF)] + [(torch.float32, HALF)]
)
def test_a_letter_fits_the_room_made_for_it_and_survives_its_way(kind, shape, dtype, behind):
    """Under autocast the output is of another precision than states: an error of half the bytes that were expected
    was read together with whatever lay behind it in memory.
    """
    post, passing = made(kind), passage(shape, dtype, behind)
    letter, room = post.write(passing), post.room(torch.empty_like(passing.x))
    assert [(part.shape, part.dtype) for part in letter] == [(part.shape, part.dtype) for part in room]
    arrived, mark = unpacked(packed(letter, True), room)
    assert mark
    assert all(map(torch.equal, arrived, letter))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_letter_are_samples(kind):
    """So that replicas may share a batch: of every second row the same is said, on the scale of their own mean loss."""
    post, whole = made(kind), passage((7,))
    half = Passage(*(None if part is None else part[::2] for part in whole))
    scale = 1.0 if kind in (Gradient, GradientAndState, Sign, Largest, Coded) else len(half.x) / ROWS
    part, all_ = post.read(post.write(half), half.x).g, post.read(post.write(whole), whole.x).g
    torch.testing.assert_close(part * scale, all_[::2])


def test_signs_have_the_mean_size_of_their_sample():
    g = passage((2, 3, 3)).g
    read = Sign().read(Sign().write(passage((2, 3, 3))), g).g
    size = g.abs().mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(read, torch.sign(g) * size)


def test_the_largest_entries_stay_and_the_others_are_nothing():
    g, post = passage((10,)).g, Largest(0.3)
    read = post.read(post.write(passage((10,))), g).g
    kept = read != 0
    assert kept.sum(dim=1).tolist() == [3] * ROWS
    assert torch.equal(read[kept], g[kept])
    assert (g.abs().masked_fill(~kept, torch.inf).amin(dim=1) >= g.abs().masked_fill(kept, 0).amax(dim=1)).all()
    everything = Largest(1.0)
    assert torch.equal(everything.read(everything.write(passage((10,))), g).g, g)


def test_bytes_of_a_sample():
    passing = passage((800,))
    size = {kind: sum(part.nbytes for part in made(kind).write(passing)) / ROWS for kind in (Gradient, Sign, Largest)}
    assert size == {Gradient: 3200, Sign: 104, Largest: 160 * 6}


@pytest.mark.parametrize("task", [Classification(OUTPUTS), Regression(OUTPUTS)])
def test_each_samples_loss_is_its_share_of_the_mean(task):
    output = torch.randn(ROWS, OUTPUTS)
    y = torch.arange(ROWS) % OUTPUTS if isinstance(task, Classification) else torch.randn(ROWS, OUTPUTS)
    torch.testing.assert_close(task.losses(output, y).mean(), task.loss(output, y))


def test_the_outputs_error_is_handed_on():
    post, last = OutputError(TASK), passage((7,))
    (e,) = post.write(last)
    torch.testing.assert_close(e, (last.h.softmax(dim=1) - torch.nn.functional.one_hot(last.y, OUTPUTS)) / ROWS)
    (again,) = post.write(last._replace(h=last.x, told=e))
    assert torch.equal(again, e)


@pytest.mark.parametrize(
    ("precision", "error", "size"), [("bf16", 2**-8, 2), ("float16", 2**-11, 2), ("int8", 0.5 / 127, 1)]
)
def test_fewer_bytes_cost_a_known_error(precision, error, size):
    """However small a gradient is: of its largest entry in a row at most, in bfloat16 of the entry itself."""
    for small in (1.0, 1e-12):
        g = small * torch.randn(ROWS, 64, generator=torch.Generator().manual_seed(0))
        g[1] = 0
        post = Coded(Gradient(), coding(precision))
        letter = post.write(Passage(g, g, g, torch.zeros(ROWS)))
        assert sum(part.nbytes for part in letter) <= ROWS * (64 * size + 4)
        read = post.read(letter, g).g
        assert ((read - g).abs() <= 1.01 * error * g.abs().amax(dim=1, keepdim=True)).all()
        assert (read[1] == 0).all()


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_row_too_small_for_a_scale_is_nothing(precision):
    """One over it is infinite: the row came out as numbers that are none. Those that are none stay so."""
    g = torch.tensor([[2e-39, -1e-39, 0.0], [1.0, 0.5, -1.0], [torch.nan, 1.0, 0.0]])
    read = coding(precision).round_trip(g)
    assert read[0].tolist() == [0, 0, 0]
    torch.testing.assert_close(read[1], g[1], rtol=0, atol=0.01)
    assert read[2].isnan().all()


def test_what_is_whole_or_single_travels_as_it_is():
    letter = Coded(Sign(), coding("int8")).write(passage((16,)))
    assert all(map(torch.equal, letter, Sign().write(passage((16,)))))
