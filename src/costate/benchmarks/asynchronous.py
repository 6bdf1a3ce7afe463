"""Asynchronous training of the lumpy surface against serial backpropagation: error, and time to an error, in pairs.

Each round trains backprop in one process and then, with an oracle of its own and with a colocated one, the same network
asynchronously, for the same number of updates of its input half. The time is that from the beginning of the fit to the
end of the first epoch whose validation error is at most 1.5 × backprop's last one, or 0.01 where that is more.
"""

import argparse
import csv
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from costate.runs import program

MEASURED = "callbacks=[throughput]"
WAYS = {
    "backprop": ("experiment=surface_sgd",),
    "dedicated": ("experiment=surface_asynchronous", "execution.oracle=dedicated"),
    "colocated": ("experiment=surface_asynchronous", "execution.oracle=colocated"),
}
SLACK, ENOUGH = 1.5, 0.01
Row = dict[str, float]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="pairs (default 3)")
    parser.add_argument("--epochs", type=int, default=20, help="of every run (default 20)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the results")
    parser.add_argument("settings", nargs="*", help="of all runs: optimizer.lr=0.02 execution.max_staleness=2")


def run(options: argparse.Namespace) -> None:
    """Prints a table, and writes asynchronous.json and asynchronous.md."""
    options.out.mkdir(parents=True, exist_ok=True)
    rounds = []
    for seed in range(options.rounds):
        rounds.append(alternately(seed, options.epochs, options.settings))
        told = "; ".join(f"{way} {row['mse']:.4f} in {row['seconds']:.2f} s" for way, row in rounds[-1].items())
        print(f"round {seed}: {told}", flush=True)
    rows = summary(rounds)
    (options.out / "asynchronous.json").write_text(json.dumps({"rounds": rounds, "medians": rows}, indent=2) + "\n")
    (options.out / "asynchronous.md").write_text(table(rows) + "\n")
    print(f"\n{table(rows)}\n\nWritten: asynchronous.json and asynchronous.md in {options.out}/")


def alternately(seed: int, epochs: int, settings: Sequence[str]) -> dict[str, Row]:
    """Every way once, one after the other."""
    with tempfile.TemporaryDirectory() as place:
        folders = {
            way: program.run(
                Path(place) / way, *own, MEASURED, *meant(way, settings), f"seed={seed}", f"epochs={epochs}"
            )
            for way, own in WAYS.items()
        }
        curves = {way: curve(folder) for way, folder in folders.items()}
        bar = max(SLACK * curves["backprop"][-1][1], ENOUGH)
        return {way: outcome(folder, curves[way], bar) for way, folder in folders.items()}


def meant(way: str, settings: Sequence[str]) -> list[str]:
    """Those of the execution are not for backpropagation, which has another one."""
    return [word for word in settings if way != "backprop" or not word.startswith("execution.")]


def curve(folder: Path) -> list[tuple[float, float]]:
    """Seconds of the fit and validation error behind each epoch."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    seconds, errors = ([float(line[name]) for line in lines if line.get(name)] for name in ("fit_seconds", "val/mse"))
    return list(zip(seconds, errors, strict=True))


def outcome(folder: Path, points: Sequence[tuple[float, float]], bar: float) -> Row:
    """Test error, seconds to the bar (without end if it is never met), and messages that were lost."""
    results: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {
        "mse": results["test/mse"],
        "seconds": min((seconds for seconds, error in points if error <= bar), default=float("inf")),
        "fit": points[-1][0],
        "sent": results.get("messages_sent", 0.0),
        "lost": results.get("messages_lost", 0.0),
    }


def summary(rounds: Sequence[dict[str, Row]]) -> dict[str, Row]:
    """Medians over the rounds, of ratios within a round; of the ratios the extremes too."""
    found: dict[str, Row] = {}
    for way in WAYS:
        row = {name: statistics.median(one[way][name] for one in rounds) for name in rounds[0][way]}
        for name in ("mse", "seconds"):
            ratios = [one[way][name] / one["backprop"][name] for one in rounds]
            row |= {f"{name}_ratio": statistics.median(ratios), f"{name}_most": max(ratios)}
        found[way] = row
    return found


def table(rows: dict[str, Row]) -> str:
    """The rows as Markdown."""
    lines = ["| | test MSE | × backprop | seconds to the bar | × backprop | messages sent | lost |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for way, row in rows.items():
        name = "serial backprop" if way == "backprop" else f"asynchronous, oracle {way}"
        ratios = [f"{row[f'{key}_ratio']:.2f} (at most {row[f'{key}_most']:.2f})" for key in ("mse", "seconds")]
        cells = [f"{row['mse']:.4f}", ratios[0], f"{row['seconds']:.2f}", ratios[1], f"{row['sent']:.0f}"]
        lines.append(f"| {name} | " + " | ".join([*cells, f"{row['lost']:.0f}"]) + " |")
    return "\n".join(lines)
