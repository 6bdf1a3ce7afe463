"""What every method of conf/method keeps to; a new file there is picked up by itself."""

import copy

import pytest
import torch
from torch import nn

from composing import method, options, scheduled, words
from costate.core.interface import Learning
from costate.core.method import Method
from costate.core.post import Post
from costate.core.stage import Stage
from costate.execution.serial import Serial
from costate.methods.backprop import Backprop, Exact, NoBprop, Silent
from costate.training.module import stages as make_stages
from trained import BATCH, SHAPE, TASK, assert_same, batches, blocks, step_all

RULES = {name: words("method", name) for name in options("method")}


def made(rule: Method) -> list[Stage]:
    """Three stages of a network that every method takes; interfaces have weights, as if they had learned."""
    parts = make_stages(blocks("verlet", 3), SHAPE, TASK, rule)
    torch.manual_seed(2)
    for p in (p for part in parts for p in part.interface.parameters()):
        nn.init.normal_(p, std=0.1)
    return parts


def trained(parts: list[Stage], rule: Method, lag: int = 1) -> list[Stage]:
    serial, optimizer = Serial(parts, rule, lag=lag), step_all([p for part in parts for p in part.parameters()])
    iteration = rule.iteration(serial)
    for n, (x, y) in enumerate(batches()):
        optimizer.zero_grad()
        iteration.gradient(n, x, y, ahead=len(batches()) - 1 - n)
        iteration.advance(optimizer)
        serial.stepped()
    return parts


class Anew(Post):
    """Another post, which knows nothing of earlier letters: each process of a pipeline has one of its own."""

    def __init__(self, post: Post):
        self.post, self.gradients = post, post.gradients

    def write(self, passage):
        return copy.deepcopy(self.post).write(passage)

    def room(self, h):
        return copy.deepcopy(self.post).room(h)

    def read(self, letter, h):
        return copy.deepcopy(self.post).read(letter, h)


def assert_stages_share_nothing(one: Method, other: Method) -> None:
    together, apart = made(one), made(other)
    post = other.post(TASK)
    if post is not None:
        other.post = lambda task: Anew(post)
    assert_same(trained(together, one), trained([copy.deepcopy(part) for part in apart], other))


@pytest.mark.parametrize("rule", RULES)
def test_stages_share_nothing(rule):
    """A process has its stage alone: what stages said to each other by an object of both is lost there, be it the post
    of their method.
    """
    assert_stages_share_nothing(*(method(*RULES[rule]) for _ in range(2)))


class Whispering(Silent):
    """Answers with how often all interfaces have been asked, which they tell each other behind the schedule's back."""

    def __init__(self, asked: list[int]):
        super().__init__()
        self.asked = asked

    def gradient(self, h, y, arrived, n):
        self.asked.append(n)
        return torch.full_like(h, 1e-3 * len(self.asked))


class Sharing(NoBprop):
    def __init__(self):
        self.asked: list[int] = []

    def interface(self, shape, task, behind):
        return Whispering(self.asked)


class Feeding(Post):
    """g with half of what it has sent last, at whichever boundary that was."""

    def __init__(self):
        self.last = torch.zeros(())

    def write(self, passage):
        self.last = passage.g + 0.5 * self.last
        return (self.last,)

    def room(self, h):
        return (h,)


class Remembering(Backprop):
    def __init__(self):
        super().__init__()
        self.sent = Feeding()


@pytest.mark.parametrize("kind", [Sharing, Remembering])
def test_a_method_whose_stages_share_an_object_does_not_pass(kind):
    with pytest.raises(AssertionError):
        assert_stages_share_nothing(kind(), kind())


def steps_gradients(rule: Method) -> list[torch.Tensor]:
    """Of each stage, for one batch that is played until late gradients have arrived."""
    parts, (x, y) = [part.double() for part in made(rule)], batches(1)[0]
    serial = Serial(parts, rule, lag=0)
    for n in range(4):
        for part in parts:
            part.zero_grad()
        serial.step(n, x.double(), y)
        serial.stepped()
    return [torch.cat([p.grad.flatten() for p in part.block.parameters()]) for part in parts]


def assert_true(rule: Method) -> None:
    """As long as the true gradient, within a half, and in its direction: what is sent may lose some of it. At
    each stage: of what has passed two boundaries a wrong sign is right again.
    """
    for k, (true, found) in enumerate(zip(*map(steps_gradients, (method("method=backprop"), rule)), strict=True)):
        assert torch.cosine_similarity(found, true, dim=0) > 0.7, f"the gradients of stage {k} point elsewhere"
        assert 0.5 < found.norm() / true.norm() < 1.5, f"the gradients of stage {k} are of another size"


def hands_on(rule: Method) -> bool:
    """Whether stages step on the gradients that come up, by whatever interface."""
    if not scheduled(rule):
        return False
    post, interface = rule.post(TASK), made(rule)[0].interface
    return post is not None and post.gradients and not isinstance(interface, Learning)


@pytest.mark.parametrize("rule", [name for name in RULES if hands_on(method(*RULES[name]))])
def test_gradients_that_are_handed_on_are_the_true_ones(rule):
    """A stranger's method that sent twice the gradient passed all that is above."""
    assert_true(method(*RULES[rule]))


class Twice(Exact):
    def gradient(self, h, y, arrived, n):
        return 2 * super().gradient(h, y, arrived, n)


class Against(Exact):
    def gradient(self, h, y, arrived, n):
        return -super().gradient(h, y, arrived, n)


class Strange(Backprop):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def interface(self, shape, task, behind):
        return self.kind()


@pytest.mark.parametrize(("kind", "told"), [(Twice, "another size"), (Against, "stage 1 point elsewhere")])
def test_a_method_that_hands_on_another_gradient_does_not_pass(kind, told):
    """Against it at one boundary, and with it again at the next."""
    with pytest.raises(AssertionError, match=told):
        assert_true(Strange(kind))


@pytest.mark.parametrize("rule", [name for name in RULES if scheduled(method(*RULES[name]))])
def test_rows_are_independent(rule):
    """The gradients of a batch, of stages and of interfaces, are the mean of those of its halves."""
    each, (x, y) = method(*RULES[rule]), batches(1)[0]
    found = []
    for rows in (slice(None), slice(0, BATCH // 2), slice(BATCH // 2, None)):
        parts = [part.double() for part in made(each)]
        serial = Serial(parts, each, lag=0)
        # The same rows, until late gradients have arrived.
        for n in range(4):
            for part in parts:
                part.zero_grad()
            serial.step(n, x[rows].double(), y[rows])
            serial.stepped()
        found.append({f"{k}/{name}": p.grad for k, part in enumerate(parts) for name, p in part.named_parameters()})
    # Which parameters learn is no matter of the rows; what the last stage learns is, and so is the mean of two.
    learnt = [{name: g for name, g in one.items() if g is not None} for one in found]
    assert learnt[0].keys() == learnt[1].keys() == learnt[2].keys()
    whole, *halves = learnt
    for name, g in whole.items():
        torch.testing.assert_close(g, (halves[0][name] + halves[1][name]) / 2, rtol=1e-9, atol=1e-12, msg=name)
    last = f"{len(parts) - 1}/block.head.weight"
    assert (halves[0][last] - halves[1][last]).abs().max() > 0.01 * whole[last].abs().max() > 0
