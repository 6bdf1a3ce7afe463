"""The idea: a network in stages, something on each boundary between them that answers the gradient there, a schedule.

    task -> loss                        method: an interface, a post, a memory and a schedule
    block | interface | block | ... | loss            a stage: a block, the interface behind it, its memory

To be read in this order: types, tasks, schedules, interface, memory, method, copies, likeness, stage. The members are
beside it, in `methods`, `interfaces`, `posts` and `architectures`; `execution` plays the schedules.
"""
