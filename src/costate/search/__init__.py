"""A search for good settings: Optuna asks, train.py answers, and every trial is a run folder.

    __main__.py: the command -> study.py: Space, what is searched; Search, the study; TrialRun, a run that is watched

Imports costate.runs.program, which starts runs, and of costate.reports what reads them. Called by nobody else.
"""
