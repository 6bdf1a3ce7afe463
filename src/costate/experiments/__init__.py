"""The programs of three earlier projects, run again, and what came of them.

    conf/experiment/*.yaml -> rows.py: experiments, rows, runs, results -> table.py: RESULTS.md
                                       ^
    __main__.py: what is due is run by costate.runs.program, or an epoch of each with --fast

Called by `make experiments` alone; imports costate.reports for numbers and sweeps.
"""
