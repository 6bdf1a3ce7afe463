"""Networks that can be cut into stages: the stable ones of Haber and Ruthotto, and plain ones.

    block     what a network and a stage are; other numbers of layers over the same time
    stable    opening, steps of an integrator, head:  integrators, resnet, antisymmetric, leapfrog, verlet
              what its states are:                    forms (dense, conv), tokens, fields, norm
    chain     modules one after the other:            plain, recurrent, a user's own
    reversal  layers that are run backwards

A leaf of the package: it knows nothing of methods, of training and of who runs the stages, which all import it.
"""

from costate.architectures.block import Block, Coarsening, Network

__all__ = ["Block", "Coarsening", "Network"]
