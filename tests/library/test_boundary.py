"""A boundary in a plain model: which gradients it gives, and what it must not do."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import costate
from composing import method, network, refusal
from costate.core.tasks import Classification
from costate.execution.serial import Serial
from costate.methods.synthetic_gradients import Conv, Linear, LowRank, Mlp, Pooled
from costate.training.module import stages as make_stages

N, CLASSES = 12, 3
KINDS = {
    "linear": ((5,), Linear, {}),
    "mlp": ((5,), Mlp, {"layers": 1, "width": 7}),
    "lowrank": ((5,), LowRank, {"rank": 2}),
    "conv": ((2, 6, 6), Conv, {"layers": 1, "channels": 4, "kernel": 3}),
    "pooled": ((2, 6, 6), Pooled, {"pool": 3}),
}


def batch(*shape: int, n: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(CLASSES, (n,), generator=generator)


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def dense(width: int = 5) -> tuple[nn.Module, costate.Boundary, nn.Module]:
    """A front, a boundary with weights, and a back."""
    front, back = nn.Sequential(nn.Linear(4, width), nn.Tanh()), nn.Linear(width, CLASSES)
    return drawn(front), drawn(costate.Boundary((width,), classes=CLASSES), 1), drawn(back, 2)


def gradients(*modules: nn.Module) -> list[Tensor]:
    return [p.grad for module in modules for p in module.parameters()]


def close(a: list[Tensor], b: list[Tensor], tolerance: float = 1e-12) -> bool:
    return len(a) == len(b) > 0 and all(
        torch.allclose(x, y, rtol=tolerance, atol=tolerance) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize(
    ("kind", "told", "count"), [*((kind, "classes", 3) for kind in KINDS), ("linear", "nothing", 2)]
)
def test_gradients_are_those_of_the_template(kind, told, count):
    """method=sg in one process, with the same weights: of every stage and every synthesizer."""
    shape, make, settings = KINDS[kind]

    def synthesizer(shape: tuple[int, ...], context: int) -> nn.Module:
        return make(shape, context, **settings)

    words = ("arch=resnet", "arch.width=5") if len(shape) == 1 else ("arch=resnet", "arch/form=conv", "arch.width=2")
    torch.manual_seed(0)
    parts = network((1, 12, 12), CLASSES, *words, "arch.depth=3").cut(count)
    rule = method("method=sg", f"method.conditioned={str(told == 'classes').lower()}")
    rule.synthesizer = synthesizer
    stages = make_stages(copy.deepcopy(parts), (1, 12, 12), Classification(CLASSES), rule)
    for stage in stages:
        drawn(stage.interface)
        stage.double()
    classes = CLASSES if told == "classes" else None
    net = costate.decouple(
        [part.double() for part in parts],
        range(1, count),
        classes=classes,
        shapes=[stage.inlet for stage in stages[1:]],
        synthesizer=synthesizer,
    )
    for boundary, stage in zip(net.boundaries, stages, strict=False):
        boundary.double().synthesizer.load_state_dict(stage.interface.synthesizer.state_dict())
    x, y = batch(1, 12, 12)
    Serial(stages, rule, lag=0).step(0, x, y)
    F.cross_entropy(net(x, y if classes else None), y).backward()
    assert close(gradients(*net.stages), gradients(*(stage.block for stage in stages)))
    assert close(gradients(*net.boundaries), gradients(*(stage.interface for stage in stages)))


def test_one_backward_pass_is_that_of_the_sum():
    """Σ ⟨h, ĝ⟩ + loss + fit, with h detached."""
    front, boundary, back = dense()
    x, y = batch(4)
    F.cross_entropy(back(boundary(front(x), context=y)), y).backward()
    found = gradients(front, boundary, back)
    for module in (front, boundary, back):
        module.zero_grad()
    h = front(x)
    end = h.detach().requires_grad_()
    loss = F.cross_entropy(back(end), y)
    (g,) = torch.autograd.grad(loss, end, retain_graph=True)
    p = boundary.synthesizer(h.detach(), F.one_hot(y, CLASSES))
    ((h * p.detach()).sum() / N + loss + F.mse_loss(p, N * g, reduction="sum") / (2 * N)).backward()
    assert close(found, gradients(front, boundary, back))


class Oracle(nn.Module):
    """Predicts what it is told."""

    def __init__(self, shape: tuple[int, ...], context: int):
        super().__init__()
        self.told = torch.zeros(())
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor, c: Tensor | None) -> Tensor:
        return self.told + 0 * self.weight


def test_a_synthesizer_that_knows_the_gradient_makes_it_backpropagation():
    front, _, back = dense()
    x, y = batch(4)
    h = front(x)
    h.retain_grad()
    F.cross_entropy(back(h), y).backward()
    expected, g = gradients(front, back), h.grad
    front.zero_grad()
    back.zero_grad()
    boundary = costate.Boundary((5,), synthesizer=Oracle)
    boundary.synthesizer.told = N * g
    F.cross_entropy(back(boundary(front(x))), y).backward()
    assert close(gradients(front, back), expected)
    assert boundary.synthesizer.weight.grad == 0, "nothing is left to learn"


@pytest.mark.parametrize("parts", [2, 3])
def test_gradients_add_up_over_batches(parts):
    """Those of one large batch, whether each part is followed by its backward pass or all of them wait."""
    x, y = batch(4)
    found = []
    for wait in (None, False, True):
        front, boundary, back = dense()
        pieces = 1 if wait is None else parts
        losses = []
        for a, b in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
            h = boundary(front(a), context=b, scale=1 / pieces)
            losses.append(F.cross_entropy(back(h), b) / pieces)
            if not wait:
                losses.pop().backward()
        for loss in reversed(losses):
            loss.backward()
        found.append(gradients(front, boundary, back))
    assert close(found[1], found[0])
    assert close(found[2], found[0])


def test_a_scaled_loss_has_scaled_gradients():
    """As a GradScaler wants them, which divides all by its factor before the step."""
    front, boundary, back = dense()
    x, y = batch(4)
    found = []
    for scale in (1.0, 1024.0):
        for module in (front, boundary, back):
            module.zero_grad()
        (scale * F.cross_entropy(back(boundary(front(x), context=y, scale=scale)), y)).backward()
        found.append([g / scale for g in gradients(front, back, boundary)])
    assert close(*found)


def test_two_uses_in_one_forward():
    """Each cuts where it stands; the synthesizer learns from both, as two of the same weights would."""
    front, once, back = dense(5)
    middle = drawn(nn.Linear(5, 5), 3)
    twice = copy.deepcopy(once)
    x, y = batch(4)
    F.cross_entropy(back(once(middle(once(front(x), context=y)), context=y)), y).backward()
    found, joint = gradients(front, middle, back), gradients(once)
    for module in (front, middle, back, once):
        module.zero_grad()
    F.cross_entropy(back(twice(middle(once(front(x), context=y)), context=y)), y).backward()
    assert close(found, gradients(front, middle, back))
    assert close(joint, [a + b for a, b in zip(gradients(once), gradients(twice), strict=True)])


def test_it_is_the_identity_where_nothing_learns():
    boundary, h = costate.Boundary((5,), classes=CLASSES), torch.randn(N, 5, requires_grad=True)
    assert boundary.eval()(h) is h
    boundary.train()
    with torch.no_grad():
        assert boundary(h) is h
    assert torch.equal(boundary(h, context=torch.zeros(N, dtype=torch.long)), h)


def test_a_change_in_place_behind_it_stays_behind_it():
    front, boundary, back = dense()
    x, y = batch(4)
    F.cross_entropy(back(boundary(front(x), context=y).relu_()), y).backward()
    found = gradients(front, boundary, back)
    for module in (front, boundary, back):
        module.zero_grad()
    F.cross_entropy(back(boundary(front(x), context=y).relu()), y).backward()
    assert close(found, gradients(front, boundary, back))


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 6, 6)], ids=["vector", "sequence", "image"])
def test_the_first_state_tells_the_shape(shape):
    """An optimizer may have the weights before they have one; they start at zero and are those of a known shape."""
    known, told = costate.Boundary(shape, classes=CLASSES), costate.Boundary(classes=CLASSES)
    optimizer = torch.optim.Adam(told.parameters(), lr=0.1)
    h, (_, y) = torch.randn(N, *shape, requires_grad=True), batch(4)
    told(h, context=y).square().sum().backward()
    assert torch.equal(h.grad, torch.zeros_like(h)), "an untrained boundary lets nothing through"
    assert [p.shape for p in told.parameters()] == [p.shape for p in known.parameters()]
    optimizer.step()
    assert all(p.abs().sum() > 0 for p in told.parameters())
    costate.Boundary(classes=CLASSES).load_state_dict(told.state_dict())


def test_each_token_may_have_a_label_of_its_own():
    boundary = drawn(costate.Boundary((4, 5), classes=CLASSES)).float()
    h, y = torch.randn(N, 7, 5), torch.randint(CLASSES, (N, 7))
    joint = boundary.synthesizer(h, F.one_hot(y, CLASSES))
    for t in range(7):
        one = boundary.synthesizer(h[:, t : t + 1], F.one_hot(y[:, t], CLASSES))
        assert torch.allclose(joint[:, t : t + 1], one, atol=1e-6)
    assert boundary(h, context=y).shape == h.shape, "sequences may be longer than the first one"


def test_a_batch_without_rows_teaches_nothing():
    front, boundary, back = dense()
    x, y = batch(4, n=0)
    back(boundary(front(x), context=y)).sum().backward()
    assert all(g.count_nonzero() == 0 for g in gradients(front, boundary, back))


def test_torch_func_has_the_gradients_of_backward():
    net = drawn(nn.ModuleList(dense()))
    x, y = batch(4)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = net

        def forward(self, x):
            front, boundary, back = self.parts
            return F.cross_entropy(back(boundary(front(x), context=y)), y)

    model = Model()
    found = torch.func.grad(lambda weights: torch.func.functional_call(model, weights, x))(
        dict(model.named_parameters())
    )
    model(x).backward()
    assert close(list(found.values()), gradients(model))


@pytest.mark.parametrize("change", ["bfloat16", "half", "double"])
def test_a_precision_may_be_given_before_the_shape_is_known(change):
    boundary, (_, y) = getattr(costate.Boundary(classes=CLASSES), change)(), batch(4)
    h = getattr(torch.randn(N, 5), change)().requires_grad_()
    boundary(h, context=y).sum().backward()
    assert {p.dtype for p in boundary.parameters()} == {h.dtype}


@pytest.mark.parametrize(
    "use",
    [
        lambda boundary: sum(p.numel() for p in boundary.parameters()),
        lambda boundary: [p.shape for p in boundary.parameters()],
        lambda boundary: torch.optim.swa_utils.AveragedModel(boundary).update_parameters(boundary),
        lambda boundary: nn.utils.parameters_to_vector(boundary.parameters()),
    ],
    ids=["counted", "looked at", "averaged", "in one vector"],
)
def test_weights_that_are_not_there_yet_are_told_in_a_sentence(use):
    sentence = refusal(lambda: use(costate.Boundary(classes=CLASSES)))
    assert sentence.startswith("A boundary that was not told its shape has no weights before its first call")


LABELS = torch.zeros(N, dtype=torch.long)


@pytest.mark.parametrize(
    ("settings", "call", "sentence"),
    [
        ({"classes": 3}, {}, "In training this boundary needs the labels: boundary(h, context=y)."),
        ({}, {"context": LABELS}, "This boundary is told nothing"),
        ({"classes": 3}, {"context": LABELS[1:]}, "The context has 11 rows and the state 12."),
        ({"classes": 3}, {"context": LABELS + 3}, "Labels from 3 to 3 do not go with classes=3."),
        ({"classes": 3}, {"context": LABELS.float()}, "A boundary with classes=3 is told integers, not torch.float32."),
        ({"targets": 2}, {"context": LABELS}, "A boundary with targets=2 is told (rows, 2) numbers, not (12,)."),
        ({"classes": 3}, {"context": LABELS, "scale": 0.0}, "scale=0.0 is not above 0"),
        ({"shape": (4,), "classes": 3}, {"context": LABELS}, "This boundary is for states of shape (4,), not (5,)."),
    ],
)
def test_wrong_use_is_told_in_a_sentence(settings, call, sentence):
    boundary = costate.Boundary(**settings)
    told = refusal(lambda: boundary(torch.randn(N, 5), **call))
    assert told.startswith(sentence)
    assert "\n" not in told


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"classes": 3, "targets": 2}, "A boundary is told a label or a target: give classes or targets, not both."),
        ({"classes": 0}, "classes=0 is below 1"),
        ({"synthesizer": Linear}, "A synthesizer of your own needs the shape of a sample's state"),
        ({"shape": (2, 3, 4, 5)}, "No synthesizer is known for states of shape (2, 3, 4, 5)"),
    ],
)
def test_boundaries_that_cannot_be_are_refused(settings, sentence):
    assert refusal(lambda: costate.Boundary(**settings)).startswith(sentence)
