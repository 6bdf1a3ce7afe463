"""A search for good settings: Optuna asks, train.py answers, and every trial is a run folder.

    __main__.py: the command -> study.py: Space, what is searched; Search, the study; TrialRun, a run that is watched

Imports costate.jobs, which starts runs, and of costate.reports the readers of run folders. Called by nobody else.
"""
