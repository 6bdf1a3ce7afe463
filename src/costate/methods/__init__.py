"""How the boundaries of a network are trained: an interface for each of them, a post, a memory, and a schedule.

    backprop                  the baselines:  backprop, feedback (the output's error by a fixed map), none
    late                      true gradients that arrive late:  delayed, replay, petra
    synthetic_gradients       predicted ones
    coarse                    those of coarse copies of what is behind
    local                     none from behind, but of a loss of its own:  greedy, critic
    variable_distribution     another algorithm, by `costate.pvd`, on `network_loss`
    memories, compression     what stages remember; what is sent in fewer bytes

Each file has its interfaces, too, which say what the gradient is at a boundary; `core` says what all have in common. A
file of conf/method makes one method; `training` asks it for the stages' parts, an execution for the order.
"""
