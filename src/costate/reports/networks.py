"""Networks out of run folders, what they take for what, and how stable they are.

J_j, P_j   Jacobians of layer j and of all layers up to it, see costate.core.measures
ε          noise at the input, of deviation NOISE times that of the samples
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from costate.core.block import Block
from costate.core.measures import layer_jacobians, products, states
from costate.core.types import Input
from costate.data.memory import InMemory
from costate.reports import style
from costate.runs import trained

MOST_CLASSES = 20
"""Classes whose names and numbers find room."""
SAMPLES, NOISE, LARGEST = 8, 0.1, 256
"""Samples of a Jacobian; deviation of the noise; numbers in a state up to which Jacobians are worth their time."""


@dataclass(frozen=True)
class Trained:
    """A trained network, in evaluation mode, with its data.

    Attributes:
        blocks: the network, in one piece.
        h: time step, 1 where the network has none.
    """

    title: str
    arch: str
    method: str
    depth: int
    h: float
    blocks: list[Block]
    data: InMemory

    @torch.no_grad()
    def __call__(self, x: Input) -> Float[Tensor, "batch outputs"]:
        for block in self.blocks:
            x = block(x)
        return x

    def states(self, x: Input) -> list[Tensor]:
        """The state in front of the first layer and behind each."""
        return states(self.blocks, x)

    def test(self, most: int) -> tuple[Tensor, Tensor]:
        """The first samples and labels of the test rows."""
        assert self.data.parts, "read on loading"
        rows = self.data.parts.test
        return self.data.prepare(rows.x[:most]), rows.y[:most]


def load(folder: Path | str, title: str | None = None) -> Trained:
    """The network of a run.

    Raises:
        ValueError: the folder holds no finished run, or one whose checkpoint is of another network.
    """
    folder = Path(folder)
    cfg = trained.settings(folder)
    data = instantiate(cfg["data"], _convert_="all")
    data.setup()
    block = trained.network(folder, cfg, data.shape, data.task.outputs)
    depth = block.layers
    arch, method = cfg["labels"]["arch"], cfg["labels"]["method"]
    h = cfg["arch"]["T"] / depth if "T" in cfg["arch"] else 1.0
    return Trained(title or f"{arch}, {method}", arch, method, depth, h, [block], data)


def confusion(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Rows of each class by what they were taken for, as shares of the class.

    Args:
        counts: (class, prediction).
    """
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(2.6, 0.36 * min(len(classes), MOST_CLASSES) + 1.2)
    figure = style.blank(side + 0.6, side)
    place = figure.subplots()
    drawn = place.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    place.set_xlabel("prediction")
    place.set_ylabel("class")
    place.grid(False)
    if len(classes) <= MOST_CLASSES:
        place.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
        place.set_yticks(range(len(classes)), classes)
        for (i, j), share in np.ndenumerate(shares):
            if counts[i, j]:
                colour = "white" if share > 0.5 else "black"
                place.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=6.5)
    figure.colorbar(drawn, ax=place, shrink=0.8, label="share of the class")
    return figure


def small(network: Trained) -> bool:
    """Whether its states are small enough."""
    x, _ = network.test(1)
    return all(Y.numel() <= LARGEST for Y in network.states(x))


def spectra(networks: Sequence[Trained]) -> Figure:
    """A row a network: the singular values of P_j by layer; the eigenvalues of each J_j, where layers keep a width."""
    networks = networks[: style.MOST_PANELS // 2]
    jacobians = [layer_jacobians(network.blocks, network.test(SAMPLES)[0]) for network in networks]
    square = [[J for J in own if J.shape[1] == J.shape[2]] for own in jacobians]
    kinds = 1 + any(square)
    figure, axes = style.table(len(networks), kinds, 1.6, sharey="col")
    for row, network, own, fields in zip(axes, networks, jacobians, square, strict=True):
        row[0].set_title(style.wrapped(network.title, style.HALF), loc="left")
        _singular_values(row[0], products(own))
        for place in row[1:]:
            _eigenvalues(place, fields, network)
    style.outer(axes, ["layer j", "real part of $(λ − 1)/h$"][:kinds], ["singular values of $P_j$"] * len(axes))
    if any(square):
        shades = ScalarMappable(cmap=ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256))))
        style.colour_bar(figure, shades, figure.axes, location="top", aspect=60, label="layer j / depth")
    style.legend(figure, list(axes[:, 0]))
    return figure


def _singular_values(place: Axes, propagated: Sequence[Tensor]) -> None:
    values = [torch.linalg.svdvals(P.double()) for P in propagated]
    layers = np.arange(1, len(values) + 1)
    largest = [v[:, 0].mean().item() for v in values]
    median = [v.median(dim=1).values.mean().item() for v in values]
    # Below that there are only rounding errors.
    least = [max(v[:, -1].mean().item(), 1e-6) for v in values]
    place.fill_between(layers, least, largest, color="#0072B2", alpha=0.15, linewidth=0)
    place.plot(layers, largest, color="#D55E00", label="largest")
    place.plot(layers, median, color="#0072B2", linestyle="--", label="median")
    place.plot(layers, least, color="#009E73", linestyle=":", label="smallest")
    place.axhline(1, color="#555555", linewidth=0.6)
    place.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    style.logarithmic(place)


def _eigenvalues(place: Axes, jacobians: Sequence[Tensor], network: Trained) -> None:
    """Of J_j = I + h f′: (λ − 1) / h, as the field has them; the imaginary axis is where nothing grows or decays."""
    if not jacobians:
        return
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(jacobians)))
    for J, colour in zip(jacobians, colours, strict=True):
        values = (torch.linalg.eigvals(J[:2].double()).flatten() - 1) / network.h
        place.scatter(values.real, values.imag, s=2.5, color=colour, linewidths=0, rasterized=True)
    place.axvline(0, color="#555555", linewidth=0.6)
    place.set_ylabel("imaginary part")


def robustness(networks: Sequence[Trained]) -> Figure:
    """What noise at the input does: to the state on its way through the layers, and to the outputs by depth.

    A colour an architecture, a dash a method.
    """
    depths = {network.depth for network in networks}
    figure, axes = style.table(1, 1 + (len(depths) > 1), 2.2)
    inside = axes[0, 0]
    arches, methods = (list(dict.fromkeys(getattr(n, name) for n in networks)) for name in ("arch", "method"))
    deepest = {(n.arch, n.method): n for n in sorted(networks, key=lambda n: n.depth)}
    for (arch, method), network in deepest.items():
        i, j = arches.index(arch), methods.index(method)
        colour = style.COLOURS[i % 7]
        look: dict[str, Any] = {"color": colour, "marker": style.MARKS[i % 7], "linestyle": style.DASHES[j % 5]}
        look |= {"markersize": 4, "markerfacecolor": colour if j == 0 else "white"}
        growth = grown(network)
        time = np.linspace(0, 1, len(growth))
        name = f"{arch}, {method}" if len(methods) > 1 else arch
        inside.plot(time, growth, markevery=max(1, len(time) // 6), label=name, **look)
        same = sorted((n for n in networks if (n.arch, n.method) == (arch, method)), key=lambda n: n.depth)
        for outside in axes[0, 1:]:
            outside.plot([n.depth for n in same], [change(n) for n in same], **look)
    style.logarithmic(inside)
    inside.set_xlabel("place (0 opening, 1 last layer)")
    inside.set_ylabel("growth of the disturbance")
    for outside in axes[0, 1:]:
        style.doubling(outside, depths, "depth")
        outside.set_ylim(bottom=0)
        outside.set_ylabel("relative change of the output")
    style.legend(figure, [inside])
    return figure


def grown(network: Trained) -> list[float]:
    """‖Y_j(x + ε) − Y_j(x)‖ / ‖ε‖ in front of the first layer and behind each, mean over the test samples."""
    x, noisy = disturbed(network)
    size = (noisy - x).flatten(1).norm(dim=1).mean()
    pairs = zip(network.states(noisy), network.states(x), strict=True)
    return [((a - b).flatten(1).norm(dim=1).mean() / size).item() for a, b in pairs]


def disturbed(network: Trained) -> tuple[Tensor, Tensor]:
    """Test samples without and with noise, the same for every network on the same data."""
    x, _ = network.test(500)
    random = torch.Generator().manual_seed(0)
    return x, x + NOISE * x.std() * torch.randn(x.shape, generator=random)


def change(network: Trained) -> float:
    """‖f(x + ε) − f(x)‖ / ‖f(x)‖ over the test samples."""
    x, noisy = disturbed(network)
    before = network(x)
    return ((network(noisy) - before).norm() / before.norm()).item()
