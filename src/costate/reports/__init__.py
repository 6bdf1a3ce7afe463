"""From run folders to tables and figures.

    groups.py: runs, groups of seeds -> table.py -----------------------------> report.py: report/
                                        curves.py, scaling.py, timeline.py ->
                                        networks.py -> planar.py, with torch ->

Each file of figures has a `draw`, which yields names, captions and figures; style.py says how all of them look.
sweep.py is the table of a sweep, which Hydra calls; benchmarks.py draws for costate.benchmarks, dashboard.py for W&B.
Called by runs that have ended too; imports what rebuilds a network only where one is drawn.
"""
