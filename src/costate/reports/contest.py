"""Figures of the benchmarks of speed: ways to train compared on two processes, and predicted on many."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

OURS, OTHERS = "#0b6e99", "#9aa5ad"
MARKERS = "osD^v"


def speed_ups(results: dict[str, Any]) -> Figure:
    """Bars of the speed-up over backpropagation on one thread, a panel for each network; ours in colour."""
    figure = Figure(figsize=(9, 0.6 + 2.7 * len(results)), layout="constrained")
    panels = figure.subplots(len(results), 1, squeeze=False)[:, 0]
    for axes, found in zip(panels, results.values(), strict=True):
        rows = {name: row["speed-up"] for name, row in found["rows"].items()}
        names = list(rows)[::-1]
        colours = [OURS if name.startswith("pipeline sg") else OTHERS for name in names]
        bars = axes.barh(names, [rows[name] for name in names], color=colours)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xlim(0, max(2.1, 1.12 * max(rows.values())))
        axes.set_title(found["name"], fontsize=10, loc="left")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("batches a second, over backpropagation in one process on one thread (two cores: at most 2)")
    return figure


def throughput(found: dict[str, Any]) -> Figure:
    """Samples a second against processes for each way, and of R × K grids of decoupled stages."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for marker, (name, line) in zip(MARKERS, found["samples_per_second"].items(), strict=False):
        counts = [int(K) for K in line]
        left.loglog(counts, list(line.values()), marker=marker, markersize=4, label=name)
    left.set_xscale("log", base=2)
    left.set_xticks(counts, [str(K) for K in counts])
    left.set_xlabel("processes (stages, or replicas of the whole network)")
    left.set_ylabel("samples a second (predicted)")
    left.legend(frameon=False, fontsize=8)
    left.grid(alpha=0.3)
    grid = np.full((len(counts), len(counts)), np.nan)
    for key, value in found["grid"].items():
        R, K = map(int, key.split("x"))
        grid[counts.index(R), counts.index(K)] = value
    image = right.imshow(grid, origin="lower", cmap="viridis")
    right.set_xticks(range(len(counts)), [str(K) for K in counts])
    right.set_yticks(range(len(counts)), [str(R) for R in counts])
    right.set_xlabel("stages K")
    right.set_ylabel("replicas R")
    right.set_title("decoupled: samples a second on R × K processes", fontsize=9)
    figure.colorbar(image, ax=right)
    figure.suptitle(found["name"], fontsize=10)
    return figure


def check(found: dict[str, Any]) -> Figure:
    """Predicted and measured milliseconds a batch on two processes."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(found["check"]))
    for shift, key, colour in ((-0.2, "predicted", OURS), (0.2, "measured", OTHERS)):
        bars = axes.bar(places + shift, [row[key] for row in found["check"]], 0.38, label=key, color=colour)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.set_xticks(places, [row["name"].replace(", ", "\n") for row in found["check"]], fontsize=8)
    axes.set_ylabel("ms a batch")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
