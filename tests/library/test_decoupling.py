"""Models of others, cut in stages, with synthesizers or with copies of what is behind; the loop of the docs."""

import copy
import io
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

import costate
from composing import refusal

PAGE = Path(__file__).parents[2] / "docs/library.md"


def gradients(module: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in module.parameters() if p.grad is not None]


def resnet_layers() -> list[nn.Module]:
    torch.manual_seed(0)
    net = resnet18(num_classes=10)
    stem = [net.conv1, net.bn1, net.relu, net.maxpool]
    return [*stem, net.layer1, net.layer2, net.layer3, net.layer4, net.avgpool, nn.Flatten(1), net.fc]


def test_resnet18_in_three_stages():
    """In evaluation it is the network it was; in training each stage has the gradients that its own boundary predicts,
    the last one the true ones, and the boundaries learn.
    """
    layers = resnet_layers()
    whole = nn.Sequential(*copy.deepcopy(layers))
    net = costate.decouple(layers, at=[5, 7], classes=10)
    x, y = torch.randn(4, 3, 32, 32), torch.randint(10, (4,))
    assert torch.equal(net.eval()(x), whole.eval()(x))
    F.cross_entropy(net.train()(x, y), y).backward()
    F.cross_entropy(whole.train()(x), y).backward()
    own = gradients(net.stages[2])
    assert all(map(torch.equal, own, gradients(whole[7:])))
    assert all(g.abs().sum() == 0 for stage in net.stages[:2] for g in gradients(stage)), "untrained boundaries say 0"
    assert all(g.abs().sum() > 0 for g in gradients(net.boundaries[1]))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    optimizer.step()
    optimizer.zero_grad()
    F.cross_entropy(net(x, y), y).backward()
    assert all(g.abs().sum() > 0 for g in gradients(net.stages[1])), "its boundary has learnt"


class Transformer(nn.Module):
    """Says of each token whether a 3 is among those up to it."""

    def __init__(self, boundary: nn.Module):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(8, 16)
        self.first, self.second = (nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True) for _ in "ab")
        self.boundary = boundary
        self.head = nn.Linear(16, 2)

    def loss(self, tokens: Tensor, labels: Tensor) -> Tensor:
        h = self.first(self.embedding(tokens))
        h = self.boundary(h, context=labels)
        return F.cross_entropy(self.head(self.second(h)).flatten(0, 1), labels.flatten())


class Known(nn.Module):
    """A synthesizer that is told the gradient."""

    def __init__(self, shape: tuple[int, ...], context: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, h: Tensor, c: Tensor | None) -> Tensor:
        return self.g * len(h) + 0 * self.weight


def sequences() -> tuple[Tensor, Tensor]:
    tokens = torch.randint(8, (256, 6), generator=torch.Generator().manual_seed(0))
    return tokens, ((tokens == 3).cumsum(1) > 0).long()


def test_a_transformer_with_a_boundary_that_knows_the_gradient_is_backpropagation():
    whole, cut = (
        Transformer(costate.Boundary().eval()),
        Transformer(costate.Boundary((6, 16), synthesizer=Known, classes=2)),
    )
    tokens, labels = sequences()
    whole.boundary.eval()
    whole.boundary.register_forward_hook(lambda boundary, inputs, h: h.retain_grad() or setattr(whole, "h", h))
    whole.loss(tokens, labels).backward()
    cut.boundary.synthesizer.g = whole.h.grad
    cut.loss(tokens, labels).backward()
    for name, parameter in cut.named_parameters():
        if not name.startswith("boundary"):
            torch.testing.assert_close(parameter.grad, whole.get_parameter(name).grad, rtol=1e-5, atol=1e-6, msg=name)


def test_a_transformer_learns_with_a_boundary_in_its_forward():
    """Each token tells its own label; the loss starts at 0.7."""
    net, (tokens, labels) = Transformer(costate.Boundary(classes=2)), sequences()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    before = net.first.linear1.weight.clone()
    for _ in range(40):
        optimizer.zero_grad()
        net.loss(tokens, labels).backward()
        optimizer.step()
    assert net.eval().loss(tokens, labels) < 0.4
    assert (net.first.linear1.weight - before).norm() > 0.1 * before.norm()


def test_layers_are_the_model_s_own():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    net = costate.decouple(model, at=[2], classes=3)
    assert [len(stage) for stage in net.stages] == [2, 1]
    net.stages[0][0].weight.data.zero_()
    assert not model[0].weight.any()
    assert costate.decouple(model, at=[], classes=3)(torch.ones(2, 4)).shape == (2, 3)


MODEL = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


@pytest.mark.parametrize(
    ("arguments", "settings", "sentence"),
    [
        ((MODEL, [3]), {}, "at=[3]: cuts are rising numbers from 1 to 2, for there are 3 layers."),
        ((MODEL, [2, 1]), {}, "at=[2, 1]: cuts are rising numbers"),
        ((MODEL, [0]), {}, "at=[0]: cuts are rising numbers"),
        ((MODEL[0], [1]), {}, "decouple takes an nn.Sequential, an nn.ModuleList or a list of modules, not Linear"),
        (([], []), {}, "decouple takes layers that are nn.Modules, and one of them at least."),
        ((MODEL, [1]), {"shapes": []}, "There are 1 cuts and 0 shapes: give one for each cut."),
        ((MODEL, [1]), {"classes": 3, "targets": 2}, "A boundary is told a label or a target"),
    ],
)
def test_models_that_cannot_be_cut_are_refused(arguments, settings, sentence):
    told = refusal(lambda: costate.decouple(*arguments, **settings))
    assert told.startswith(sentence)
    assert "\n" not in told


def test_the_loop_of_the_docs_runs():
    """As it stands there, and learns."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 24
    names: dict[str, object] = {}
    exec(compile(code, "library.md", "exec"), names)
    assert names["accuracy"] > 0.9


X, Y, TARGETS = torch.randn(16, 6), torch.randint(3, (16,)), torch.randn(16, 3)


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def stepped(model: nn.Module, whole: nn.Module, context: torch.Tensor, loss, steps: int) -> None:
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(steps):
        sgd.zero_grad()
        loss(whole(X, context) if whole is not model else model(X), context).backward()
        sgd.step()


@pytest.mark.parametrize(
    ("told", "context", "loss"), [("classes", Y, F.cross_entropy), ("targets", TARGETS, F.mse_loss)]
)
def test_a_fresh_copy_is_backpropagation(told, context, loss):
    plain, cut = layers(), layers()
    net = costate.decouple(cut, at=[2, 4], copies=1, **{told: 3})
    stepped(plain, plain, context, loss, 4)
    stepped(cut, net, context, loss, 4)
    for p, q in zip(plain.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    assert len(list(net.boundaries.buffers())) > 0
    assert all(not p.requires_grad for p in net.boundaries.parameters())


def test_an_older_copy_says_the_gradient_of_older_weights():
    model = layers()
    old = copy.deepcopy(model[2:])
    net = costate.decouple(model, at=[2], copies=2, classes=3)
    stepped(model, net, Y, F.cross_entropy, 1)
    inputs = copy.deepcopy(model[:2])
    model.zero_grad()
    F.cross_entropy(net(X, Y), Y).backward()
    F.cross_entropy(old(inputs(X)), Y).backward()
    for p, q in zip(model[:2].parameters(), inputs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_a_copy_goes_on_where_it_was():
    """Its weights and its count are in the state dict, the live layers are there once."""
    net = costate.decouple(layers(), at=[2], copies=3, classes=3)
    F.cross_entropy(net(X, Y), Y).backward()
    other = costate.decouple(layers(), at=[2], copies=3, classes=3)
    other.load_state_dict(net.state_dict())
    assert other.boundaries[0].synthesizer.calls == 1
    names = list(net.state_dict())
    assert len(names) == len(set(names))
    assert sum("live" in name for name in names) == 0


def test_what_cannot_be_is_a_sentence():
    with pytest.raises(ValueError, match="not both"):
        costate.decouple(layers(), at=[2], copies=2, synthesizer=nn.Linear, classes=3)
    with pytest.raises(ValueError, match="below 1"):
        costate.decouple(layers(), at=[2], copies=0, classes=3)
    with pytest.raises(ValueError, match="needs the labels"):
        costate.decouple(layers(), at=[2], copies=1)(X)


def same_as_whole(model: nn.Sequential, net: nn.Module, x: Tensor, context: Tensor, loss) -> None:
    """The gradients of a model that is cut, with fresh copies, are its own."""
    found = []
    for output in (lambda: net(x, context), lambda: model(x)):
        model.zero_grad()
        loss(output()).backward()
        found.append(gradients(model))
    for p, q in zip(*found, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_a_norm_that_is_frozen_is_frozen_in_a_copy_too():
    """A copy had taken the statistics of the batch."""
    model = layers()
    model[3].running_mean.fill_(0.5)
    net = costate.decouple(model, at=[2], copies=1, classes=3).train()
    model[3].eval()
    same_as_whole(model, net, X, Y, lambda output: F.cross_entropy(output, Y))


class Turned(nn.Module):
    """What a head gives, laid out as a user's loss wants it."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(x)


@pytest.mark.parametrize(
    ("turn", "loss"),
    [
        (lambda h: h, lambda output, y: F.cross_entropy(output.mT, y)),
        (lambda h: h.mT, F.cross_entropy),
        (lambda h: h.flatten(0, 1), lambda output, y: F.cross_entropy(output, y.flatten())),
    ],
    ids=["last", "second", "in a row"],
)
def test_a_copy_finds_the_classes_of_each_token(turn, loss):
    """The wrong axis was taken for them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3), Turned(turn))
    net = costate.decouple(model, at=[2], classes=3, copies=1)
    x, y = torch.randn(6, 4, 5), torch.randint(3, (6, 4))
    same_as_whole(model, net, x, y, lambda output: loss(output, y))


def test_a_single_target_may_be_without_an_axis():
    """Every output had been compared with every target."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
    net = costate.decouple(model, at=[2], targets=1, copies=1)
    same_as_whole(model, net, X, TARGETS[:, :1], lambda output: F.mse_loss(output, TARGETS[:, 0]))


@pytest.mark.parametrize(
    ("x", "y", "told", "sentence"),
    [
        (torch.randn(6, 3, 6), torch.zeros(6, 3, dtype=torch.long), "classes", "gives (6, 3, 3), of which the second"),
        (
            torch.randn(6, 4, 6),
            torch.zeros(6, dtype=torch.long),
            "classes",
            "gives (6, 4, 3) for labels that are (6, 3)",
        ),
        (torch.randn(6, 6, 6), torch.zeros(6, 3), "targets", "gives (6, 6, 3) for labels that are (6, 3) as numbers"),
    ],
)
def test_what_a_copy_cannot_tell_is_refused(x, y, told, sentence):
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    net = costate.decouple(model, at=[2], copies=1, **{told: 3})
    found = refusal(lambda: net(x, y))
    assert found.startswith(f"A copy of what is behind {sentence}")
    assert "\n" not in found


@pytest.mark.parametrize("told", ["classes", "targets"])
def test_a_model_with_copies_can_be_saved_whole(told):
    file = io.BytesIO()
    net = costate.decouple(layers(), at=[2], copies=1, **{told: 3})
    torch.save(net, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert again.boundaries[0].synthesizer.live[0][0] is again.stages[1][0], "the layers that are trained"
