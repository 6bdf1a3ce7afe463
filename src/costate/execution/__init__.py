"""Who plays a schedule: one process, or several ranks on one machine or many."""
