"""python -m costate.benchmarks NAME: measurements, each against what it is compared to, in pairs within one run."""

import argparse

from costate.benchmarks import (
    asynchronous,
    callbacks,
    network,
    overhead,
    pipeline,
    pvd,
    reading,
    reversible,
    scaling,
    start,
)

BENCHMARKS = {
    "overhead": overhead,
    "reading": reading,
    "callbacks": callbacks,
    "start": start,
    "reversible": reversible,
    "pipeline": pipeline,
    "scaling": scaling,
    "network": network,
    "asynchronous": asynchronous,
    "pvd": pvd,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m costate.benchmarks", description=__doc__)
    names = parser.add_subparsers(metavar="NAME", required=True)
    for name, benchmark in BENCHMARKS.items():
        lines = (benchmark.__doc__ or "").splitlines()
        one = names.add_parser(name, help=lines[0], description=benchmark.__doc__)
        benchmark.arguments(one)
        one.set_defaults(run=benchmark.run)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
