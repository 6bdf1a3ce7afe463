"""Which rank holds what: R replicas of a pipeline of K stages.

Rank i K + j holds stage K − 1 − j of replica i, so that rank 0, which has the screen and the log, has the loss:

    K = 2, R = 2      stage 0   stage 1
    replica 0         rank 1    rank 0
    replica 1         rank 3    rank 2
"""

import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh


class Grid:
    """This rank's place, and the ranks that it works with.

    Args:
        replicas: R.
        stages: K.
        device: type of the devices that hold the stages, "cpu" or "cuda".

    Attributes:
        replica, stage: of this rank.
        pipeline: group of the ranks that hold the stages of this replica.
        peers: group of the ranks that hold this stage.

    Raises:
        ValueError: there are not R K ranks.
    """

    def __init__(self, replicas: int, stages: int, device: str):
        ranks = dist.get_world_size()
        if ranks != replicas * stages:
            wanted = f"stages={stages}" + (f" × execution.replicas={replicas}" if replicas > 1 else "")
            raise ValueError(f"execution=pipeline runs one stage a process: {wanted}, but {ranks} ranks were started.")
        mesh = init_device_mesh(device, (replicas, stages), mesh_dim_names=("replica", "stage"))
        self.stages = stages
        self.replica, place = divmod(dist.get_rank(), stages)
        self.stage = stages - 1 - place
        self.pipeline, self.peers = mesh.get_group("stage"), mesh.get_group("replica")

    def rank_of(self, stage: int) -> int:
        """The rank that holds a stage of this replica."""
        return self.replica * self.stages + self.stages - 1 - stage
