"""The idea: a network cut into stages, something on each boundary that answers the gradient there, and a schedule.

    x -> [ block 0 ] -> h_0 -> [ block 1 ] -> h_1 -> [ block 2 ] -> output        down: states
           memory 0  interface 0  memory 1  interface 1  memory 2  loss           up: letters of a post

A method chooses interfaces, posts, memories and the schedule; a stage is a block with what belongs to it. Read in this
order: types, tasks, schedules, block, interface, post, joint (batches that ranks share), copies, stage, method. Members
are beside it, in `architectures` and `methods`; `execution` plays the schedule. Nothing is imported here, and from
elsewhere only `config` and `pvd`: words need torch alone.
"""
