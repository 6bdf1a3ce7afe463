"""A search for good settings: Optuna asks, train.py answers, and every trial is a run folder."""
