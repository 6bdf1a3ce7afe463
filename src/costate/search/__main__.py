"""python -m costate.search SETTINGS...: searches settings of train.py with Optuna; each trial is a run folder.

Settings are given as to train.py. What is searched is given as choice(a,b), a,b,c, interval(a,b), range(a,b) or, evenly
in the logarithm, tag(log,interval(a,b)). The same command, or --folder alone, goes on with a search, as it was begun
but for --trials, --pruning and --seed that are given; started several times at once, it searches in parallel.
"""

import argparse
import shlex
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

from costate.runs.program import speak


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m costate.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", help="as to train.py, with what is searched among them")
    parser.add_argument("--folder", type=Path, default=Path("runs/search"), help="of the study (runs/search)")
    parser.add_argument("--trials", type=int, help="in all, those that are there already included (20)")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument("--minimize", default="val/loss", metavar="METRIC", help="what counts (val/loss)")
    goal.add_argument("--maximize", metavar="METRIC", help="the other way round, as val/accuracy")
    pruning = argparse.BooleanOptionalAction
    parser.add_argument("--pruning", action=pruning, help="end trials that are worse than others, or run all of each")
    parser.add_argument("--seed", type=int, help="of what is proposed (0)")
    options = parser.parse_args()
    if find_spec("optuna") is None:
        print("optuna is not installed: pip install -e '.[search]'.", file=sys.stderr)
        return 2
    from costate.search.study import Search

    place = shlex.quote(str(options.folder))
    try:
        search = Search(
            options.folder,
            options.settings,
            metric=options.maximize or options.minimize,
            direction="maximize" if options.maximize else "minimize",
            prune=options.pruning,
            seed=options.seed,
            trials=options.trials,
        )
        search.run()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"Interrupted. To go on: python -m costate.search --folder {place}")
        return 130
    best = search.best()
    if best is None:
        print("No trial came to its end.", file=sys.stderr)
        return 1
    epoch = search.best_epoch()
    told = "" if epoch is None else f" in epoch {epoch}"
    print(f"Best {search.metric}: {best[0]:.4g}{told} by python train.py {shlex.join(best[1])}")
    print(f"All trials: {options.folder / 'summary.md'}; figures: python -m costate.reports {place}")
    return 0


if __name__ == "__main__":
    speak()
    # As Ctrl-C does, `kill` has it say how to go on.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
