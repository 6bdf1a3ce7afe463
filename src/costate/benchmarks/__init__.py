"""Measurements that the docs quote, each with what it is compared to, in turn: `python -m costate.benchmarks NAME`.

    pairs       two ways to do the same in one process          parallel    runs on several processes against one
    contest     ways to train one network on two processes, and their pace:   pipeline   in a table
                                                                              network    over slow and far links
    simulation  the same ways on many processes, predicted from what they cost here:   scaling
    hosts       namespaces that stand for machines; the tests of several hosts use them, too

Nothing of the package imports it.
"""
