"""Checks every annotated type and shape while the tests run, and keeps each process of the tests on one thread."""

import os

from jaxtyping import install_import_hook

# Processes that a test starts inherit this; on a busy machine two threads for small operations are many times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Before anything of costate is imported: the hook rewrites modules while they load. Checks come before the body of a
# function, so a test of a ValueError passes values of the right type, as the settings' schema does.
install_import_hook("costate", "typechecker.check")

import costate.compat  # noqa: E402, F401  (tests import lightning, which imports torchvision)

import torch  # noqa: E402

torch.set_num_threads(1)
