"""How several processes train one module under Lightning, without torch's wrapper."""

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch.optim import Optimizer

from costate.execution.base import Execution
from costate.execution.replicas import join_batch_norms, share_module


class Replicas(DDPStrategy):
    """Every rank holds the bare module, with rank 0's tensors at the start of a fit, and with joint batch norms.

    The module averages its own gradients: a decoupled step has several backward passes, and torch's wrapper would
    reduce in each.
    """

    def configure_ddp(self) -> None:
        assert self.model is not None, "set up by the trainer"
        join_batch_norms(self.model)
        share_module(self.model, 0)


class Stages(DDPStrategy):
    """Every rank holds the bare module, with rank 0's tensors at the start of a fit, and trains a part of it.

    All ranks of a replica see the same batches. Checkpoints hold the whole network: its parts are gathered for them.
    """

    def configure_ddp(self) -> None:
        assert self.model is not None, "set up by the trainer"
        share_module(self.model, 0)

    @property
    def world_size(self) -> int:
        """To Lightning the ranks are one replica: it would have several wait for each other at each batch."""
        return 1

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        ranks = self.reduce(torch.tensor(float(decision), device=self.root_device), reduce_op="sum")
        return bool(ranks == dist.get_world_size() if all else ranks > 0)

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        replica, replicas = self._execution.share
        return {"num_replicas": replicas, "rank": replica}

    def lightning_module_state_dict(self) -> dict[str, Any]:
        self._execution.gather()
        return super().lightning_module_state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        self._execution.gather_optimizer(optimizer)
        return super().optimizer_state(optimizer)

    @property
    def _execution(self) -> Execution:
        module: Any = self.lightning_module
        return module.execution
