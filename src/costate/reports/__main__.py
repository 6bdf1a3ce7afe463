"""python -m costate.reports RUNS...: tables and figures of run and sweep folders, in report/."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from costate.runs.program import speak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m costate.reports", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, sweep folders, or folders of these")
    parser.add_argument("--out", type=Path, default=Path("report"), help="where to write (default: report/)")
    parser.add_argument(
        "--no-networks", action="store_true", help="leave out figures that need the networks themselves"
    )
    arguments = parser.parse_args()
    if find_spec("matplotlib") is None:
        print("matplotlib is not installed: pip install -e '.[reports]'.", file=sys.stderr)
        return 2
    from costate.reports.report import write

    try:
        out = write(arguments.runs, arguments.out, not arguments.no_networks, tell=lambda line: print(line, flush=True))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Written: {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    speak()
    sys.exit(main())
