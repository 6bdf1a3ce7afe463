"""python -m costate.benchmarks NAME: measurements, each against what it is compared to, in pairs within one run."""

import argparse

from costate.benchmarks import network, pairs, parallel, speed

# What it says of itself, what it is told, and the measurement.
BENCHMARKS = {
    "overhead": (pairs.overhead.__doc__, pairs.mnist, pairs.overhead),
    "reading": (pairs.reading.__doc__, pairs.mnist, pairs.reading),
    "callbacks": (pairs.callbacks.__doc__, pairs.mnist, pairs.callbacks),
    "start": (pairs.start.__doc__, None, pairs.start),
    "reversible": (pairs.reversible.__doc__, pairs.deep, pairs.reversible),
    "layout": (pairs.layout.__doc__, pairs.pictured, pairs.layout),
    "pipeline": (speed.pipeline.__doc__, speed.of_pipeline, speed.pipeline),
    "scaling": (speed.scaling.__doc__, speed.of_scaling, speed.scaling),
    "network": (network.__doc__, network.arguments, network.run),
    "asynchronous": (parallel.asynchronous.__doc__, parallel.of_surface, parallel.asynchronous),
    "pvd": (parallel.pvd.__doc__, parallel.of_workers, parallel.pvd),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m costate.benchmarks", description=__doc__)
    names = parser.add_subparsers(metavar="NAME", required=True)
    for name, (text, arguments, run) in BENCHMARKS.items():
        one = names.add_parser(name, help=(text or "").splitlines()[0], description=text)
        if arguments is not None:
            arguments(one)
        one.set_defaults(run=run)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
