"""python -m costate.evaluate RUN [split=test] [data=... data.root=...]: how a run's network does, class by class.

Written into RUN/evaluation: scores.json, classes.csv, predictions.csv and, with matplotlib, confusion.png and .svg.
"""

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

SPLITS = ("train", "validation", "test")


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m costate.evaluate", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("settings", nargs="*", help="split=test, and settings of the data as for train.py")
    parser.add_argument("--out", type=Path, help="where to write (default: RUN/evaluation/SPLIT)")
    arguments = parser.parse_args(words)
    split, overrides = "test", []
    for word in arguments.settings:
        key, _, value = word.partition("=")
        if key == "split":
            split = value
        elif key == "data" or key.startswith("data."):
            overrides.append(word)
        else:
            parser.error(f"{word}: only split and data can be set.")
    if split not in SPLITS:
        parser.error(f"split={split} must be one of {', '.join(SPLITS)}.")
    from hydra.errors import HydraException

    from costate.evaluate import predictions, tables
    from costate.runs.program import cause

    try:
        found = predictions.predict(arguments.run, overrides, split)
    except (ValueError, HydraException) as error:
        print(cause(error), file=sys.stderr)
        return 2
    out = arguments.out or arguments.run / "evaluation" / split
    out.mkdir(parents=True, exist_ok=True)
    (out / "scores.json").write_text(json.dumps(found.scores(), indent=2) + "\n", encoding="utf-8")
    tables.write(found, out)
    if found.classes and find_spec("matplotlib") is not None:
        from costate.reports import confusion, style

        style.save(confusion.draw(found.confusion(), found.classes), out, "confusion")
    tables.show(found, str(out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
