"""python -m costate.benchmarks NAME: measurements, each against what it is compared to, in pairs within one run."""

import argparse
import os

from costate.benchmarks import callbacks, overhead, reading, start

BENCHMARKS = {"overhead": overhead.run, "reading": reading.run, "callbacks": callbacks.run, "start": start.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m costate.benchmarks", description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--root", default=os.environ.get("COSTATE_DATA", "data"), help="folder with MNIST/raw in it")
    arguments = parser.parse_args()
    BENCHMARKS[arguments.name](arguments.root)


if __name__ == "__main__":
    main()
