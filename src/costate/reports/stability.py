"""How stable networks are: singular values and eigenvalues of the propagation's Jacobians, and what noise does.

J_j, P_j   Jacobians of layer j and of all layers up to it, see costate.core.measures
ε          noise at the input, of deviation NOISE times that of the samples
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from costate.core.measures import layer_jacobians, products
from costate.reports import style
from costate.reports.networks import Trained

SAMPLES, NOISE, LARGEST = 8, 0.1, 256
"""Samples of a Jacobian; deviation of the noise; numbers in a state up to which Jacobians are worth their time."""


def small(network: Trained) -> bool:
    """Whether its states are small enough."""
    x, _ = network.test(1)
    return all(Y.numel() <= LARGEST for Y in network.states(x))


def spectra(networks: Sequence[Trained]) -> Figure:
    """A column a network: above, the singular values of P_j by layer; below, the eigenvalues of each J_j."""
    networks = networks[: style.MOST_PANELS // 2]
    figure, axes = style.table(2, len(networks), (2.0, 1.9), sharey="row")
    for column, network in zip(axes.T, networks, strict=True):
        x, _ = network.test(SAMPLES)
        jacobians = layer_jacobians(network.blocks, x)
        column[0].set_title(network.title.replace(", ", ",\n"))
        _singular_values(column[0], products(jacobians))
        _eigenvalues(column[1], [J for J in jacobians if J.shape[1] == J.shape[2]], network)
    axes[0, 0].set_ylabel("singular values of $P_j$")
    axes[1, 0].set_ylabel("imaginary part")
    shades = ScalarMappable(cmap=ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256))))
    style.colour_bar(figure, shades, list(axes[1]), label="layer j / depth")
    style.legend(figure, list(axes[0]))
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
    style.logarithmic(place)
    place.set_xlabel("layer j")


def _eigenvalues(place: Axes, jacobians: Sequence[Tensor], network: Trained) -> None:
    """Of J_j = I + h f′: (λ − 1) / h, as the field has them; the imaginary axis is where nothing grows or decays."""
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(jacobians)))
    for J, colour in zip(jacobians, colours, strict=True):
        values = (torch.linalg.eigvals(J[:2].double()).flatten() - 1) / network.h
        place.scatter(values.real, values.imag, s=2.5, color=colour, linewidths=0, rasterized=True)
    place.axvline(0, color="#555555", linewidth=0.6)
    place.set_xlabel("real part of $(λ − 1)/h$")


def robustness(networks: Sequence[Trained]) -> Figure:
    """What noise at the input does: to the state on its way through the layers, and to the outputs by depth.

    A colour an architecture, a dash a method.
    """
    depths = sorted({network.depth for network in networks})
    figure, axes = style.table(1, 1 + (len(depths) > 1), (3.1, 2.6))
    inside = axes[0, 0]
    arches, methods = (list(dict.fromkeys(getattr(n, name) for n in networks)) for name in ("arch", "method"))
    deepest = {(n.arch, n.method): n for n in sorted(networks, key=lambda n: n.depth)}
    for (arch, method), network in deepest.items():
        i, j = arches.index(arch), methods.index(method)
        look: dict[str, Any] = {
            "color": style.COLOURS[i % 7],
            "marker": style.MARKS[i % 7],
            "linestyle": style.DASHES[j % 5],
        }
        look |= {"markersize": 4, "markerfacecolor": style.COLOURS[i % 7] if j == 0 else "white"}
        growth = grown(network)
        time = np.linspace(0, 1, len(growth))
        inside.plot(time, growth, markevery=max(1, len(time) // 6), label=f"{arch}, {method}", **look)
        same = sorted((n for n in networks if (n.arch, n.method) == (arch, method)), key=lambda n: n.depth)
        for outside in axes[0, 1:]:
            outside.plot([n.depth for n in same], [change(n) for n in same], **look)
    style.logarithmic(inside)
    inside.set_xlabel("place in the network (0 opening, 1 last layer)")
    inside.set_ylabel("growth of the disturbance")
    for outside in axes[0, 1:]:
        outside.set_xscale("log", base=2)
        outside.set_ylim(bottom=0)
        outside.set_xticks(depths, [str(depth) for depth in depths])
        outside.set_xlabel("depth")
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
