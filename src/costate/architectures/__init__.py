"""Networks that can be cut into stages: the stable ones of Haber and Ruthotto, and plain ones.

    stable    opening, steps of an integrator, head:  integrators (resnet, antisymmetric, leapfrog, verlet)
              what its states are:                    forms (dense, conv), tokens, fields, norm
    chain     modules one after the other:            plain, recurrent, a user's own
    reversal  layers that are run backwards

What a network and a block are stands in `costate.core.block`. Knows nothing of methods, of training and of who runs
the stages, which all import it.
"""

from costate.core.block import Block, Coarsening, Network

__all__ = ["Block", "Coarsening", "Network"]
