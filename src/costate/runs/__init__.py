"""Runs, from outside: the folder of one, the program that makes one, and what one has trained.

    folder    settings, numbers and checkpoints of a run, and whether it may go on     program   train.py as a process,
    files     written whole or not at all; metrics.csv read by its columns                       and how it ends
    trained   the network of a run, out of its folder

Called by train.py and by all that starts or reads runs. Imports config and, of execution, who is who among processes;
torch in `trained` only.
"""

from costate.runs.folder import JOB, RunFolder, TakenError, fresh, sweep_of

__all__ = ["JOB", "RunFolder", "TakenError", "fresh", "sweep_of"]
