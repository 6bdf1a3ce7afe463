"""Who plays a schedule: one process, or several ranks on one machine or many.

    serial, unrolled, pipeline, asynchronous/   executions, each a `base.Execution`; those of method=pvd are in serial
    messages, replicas                          what travels between ranks, room for it, and what they reckon together
    clock                                       what is measured of them
    strategy                                    what Lightning is told of them
    launching/                                  who starts ranks, and how they find each other; no torch

`training` and `train.py` call it; it imports methods and what lies below them, and neither data nor training.
"""
