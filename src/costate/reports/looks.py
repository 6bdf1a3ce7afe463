"""The figures that need the networks themselves: one network of each setting, on the sets in the plane."""

from collections.abc import Sequence
from pathlib import Path

from costate.reports import planar, stability, style, surfaces
from costate.reports.curves import Figures, by_data
from costate.reports.groups import Group
from costate.reports.networks import Trained, load_all

FIRST = "of the first seed"


def draw(groups: Sequence[Group], refused: list[tuple[Path, str]]) -> Figures:
    """The figures of each planar data set; folders whose networks cannot be rebuilt are added to `refused`."""
    for data, own in by_data([group for group in groups if group.planar]).items():
        folders = [(g.runs[0].folder, f"{g.network}, {g.way}") for g in own[: 2 * style.MOST_PANELS]]
        networks, others = load_all(folders)
        refused += others
        if networks:
            yield from of_one(data, networks)
        learned = [surfaces.read(folder, title) for folder, title in folders if (folder / "surface").exists()]
        if learned:
            caption = f"{data}: the surface {FIRST} while it is learned, beside its target, on one scale of heights."
            yield f"learning_{data}", caption, surfaces.draw(learned[: style.MOST_PANELS // 2])


def of_one(data: str, networks: list[Trained]) -> Figures:
    some = networks[: style.MOST_PANELS]
    if planar.classifies(networks[0]):
        caption = (
            f"{data}: decision regions {FIRST}, the paler the less sure; a cross is a test point on the wrong side."
        )
        yield f"regions_{data}", caption, planar.regions(some)
    else:
        yield f"surface_{data}", f"{data}: the surface {FIRST} beside its target.", planar.surfaces(some)
    caption = f"{data}: the test points on their way through the layers, along the two main directions of all states."
    yield f"features_{data}", caption, planar.features(some)
    few = [network for network in some if stability.small(network)]
    if few:
        caption = (
            f"{data}: singular values of the propagation's Jacobian P_j (mean over {stability.SAMPLES} test points), "
            "and eigenvalues of each layer's Jacobian as those of the field, first layers dark, last ones light."
        )
        yield f"spectra_{data}", caption, stability.spectra(few)
    output = ", and to the output" if len({network.depth for network in networks}) > 1 else ""
    caption = f"{data}: what noise at the input does to the state inside the deepest networks{output}."
    yield f"robustness_{data}", caption, stability.robustness(networks)
