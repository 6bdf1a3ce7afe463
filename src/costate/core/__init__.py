"""The idea: a network cut into stages, something on each boundary that answers the gradient there, and a schedule.

    x -> [ block 0 ] -> h_0 -> [ block 1 ] -> h_1 -> [ block 2 ] -> output        down: states
           memory 0  interface 0  memory 1  interface 1  memory 2  loss           up: letters of a post

A method chooses interfaces, posts, memories and the schedule; a stage is a block with what belongs to it. To be read in
this order: types, tasks, schedules, interface, post, memory, method, copies and likeness, stage. Members are beside it,
in `methods`, `interfaces`, `posts`; `execution` plays the schedule. Nothing is imported here: words need torch alone.
"""
