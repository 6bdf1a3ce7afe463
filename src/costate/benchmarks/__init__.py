"""Measurements that the docs quote, each with what it is compared to, in turn: `python -m costate.benchmarks NAME`.

    pairs       two ways to do the same in one process          parallel    runs on several processes against one
    contest     ways to train one network on two processes, and their pace:   speed     in a table
                                                                              network   over slow and far links
    simulation  the same ways on many processes, predicted from what they cost here:   speed
    hosts       namespaces that stand for machines; the tests of several hosts use them, too

Nothing of the package imports it.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate


def build(node: Any, *objects: Any) -> Any:
    """What a node of the configuration stands for."""
    return instantiate(node, *objects, _convert_="all")


def medians(rounds: Sequence[Any]) -> Any:
    """Of numbers in dictionaries, however deep: a dictionary like that of the first round."""
    if not isinstance(rounds[0], dict):
        return statistics.median(rounds)
    return {key: medians([found[key] for found in rounds if key in found]) for key in rounds[0]}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first one are of numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(folder: Path, name: str, result: Any, text: str, **figures: Any) -> None:
    """The result as name.json, its tables as name.md, figures as name.png or name_<key>.png; says so."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    (folder / f"{name}.md").write_text(text + "\n")
    pictures = {f"{name}_{key}.png".replace("_whole", ""): figure for key, figure in figures.items()}
    for file, figure in pictures.items():
        figure.savefig(folder / file, dpi=150)
    print(f"\nWritten: {', '.join([f'{name}.json', f'{name}.md', *pictures])} in {folder}/", flush=True)
