"""Train a network in stages: python train.py arch=verlet method=sg data=mnist (see --help)."""

import random
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from costate.config.schema import check
from costate.execution import launching
from costate.execution.launching import meeting
from costate.runs import RunFolder
from costate.runs.program import CommandLine, crowd

line = CommandLine()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
@line.job
def main(cfg: DictConfig) -> None:
    """One job: check its settings, then train here, or have several ranks do so."""
    hydra_cfg = HydraConfig.get()
    folder = RunFolder(cfg.resume or hydra_cfg.runtime.output_dir, hydra_cfg.overrides.task)
    composed = check(folder.saved(cfg) if cfg.resume else cfg)
    if meeting.rank() is None:
        crowd(composed.trainer.devices, composed.trainer.accelerator)
    with folder.lock():
        again = cfg.resume is not None or folder.goes_on(composed)
        cfg = composed if cfg.resume or not again else check(folder.kept(composed))
        if again and folder.is_finished(cfg):
            done = folder.results()["epochs"]
            print(f"{folder} has finished its {done} epochs: to go on, add epochs=... to {folder.resume}")
        elif not launching.delegate(cfg.trainer.devices * cfg.trainer.num_nodes, cfg.trainer.num_nodes, again):
            meeting.compare(OmegaConf.to_container(cfg))
            meeting.at_work_in(folder.path)
            from costate.training.wandb_run import closing

            closing(train, cfg, folder)


def train(cfg: DictConfig, folder: RunFolder) -> None:
    """Builds what the settings name, fits it, tests the best checkpoint, and keeps the results."""
    import numpy as np
    import torch

    from costate.callbacks.checkpoints import Checkpoints, Interruption
    from costate.callbacks.measurement import LearningRate, TrainingScore
    from costate.callbacks.speed import Timeline
    from costate.runs import trained
    from costate.training import screen
    from costate.training.balance import by_work
    from costate.training.module import Training, compile_blocks
    from costate.training.refinement import Refinement
    from costate.training.trainer import take_rank

    def build(node: Any, *objects: Any) -> Any:
        return instantiate(node, *objects, _convert_="all")

    take_rank(meeting.rank() or 0)
    depth, T = cfg.arch.get("depth"), cfg.arch.get("T")
    plan = build(cfg.levels).plan(depth, cfg.stages, cfg.epochs, cfg.optimizer.lr, cfg.balance, T)
    composed = cfg.copy()
    cfg.merge_with(plan.settings)
    config: Any = OmegaConf.to_container(cfg)
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(cfg.seed)
    data = build(cfg.data)
    network = build(OmegaConf.merge(cfg.arch, plan.start), data.shape, data.task.outputs)
    method, execution, optimizer = (build(node) for node in (cfg.method, cfg.execution, cfg.optimizer))
    rules = method, execution, optimizer, plan.annealing(build(cfg.annealing))
    data.rows = method.rows
    balance = by_work(network, method, cfg.stages, data.shape, data.task) if cfg.balance == "work" else cfg.balance
    blocks = method.cut(network, cfg.stages, balance)
    for block in blocks:
        # Before any copies of them are made, which are to lay images in memory in the same way.
        block.channels_last = cfg.get("channels_last", False)
    model = Training(blocks, data.shape, data.task, *rules, clip=cfg.clip, config=config)
    if cfg.get("compile"):
        compile_blocks(blocks, deepens=len(plan.levels) > 1)

    checkpoints = Checkpoints(folder.path / "checkpoints", f"val/{data.task.score}", data.task.mode)
    interruption = Interruption(checkpoints, model.execution, f"Interrupted. {folder.advice}")
    refinement = Refinement(plan, checkpoints)
    measurements = [build(node) for node in cfg.callbacks.values() if node is not None]
    place = folder.path, checkpoints.batches(cfg.epochs), config
    loggers = [build(node, *place) for node in cfg.logger.values() if node is not None]
    measured = [TrainingScore(every=cfg.log_every), LearningRate(every=cfg.log_every)]
    always = [*measured, Timeline(folder.path / "trace.json"), checkpoints, interruption]
    trainer = build(cfg.trainer, folder.path, cfg.epochs, cfg.log_every, [refinement, *measurements, *always], loggers)
    data.prepare_data()

    if trainer.is_global_zero:
        folder.begin(cfg, composed)
        trained.describe(data.samples(), folder.path)
        if cfg.summary:
            screen.outline(model)
    with interruption.listener:
        trainer.fit(model, data, ckpt_path=checkpoints.last if checkpoints.last.exists() else None)
        checkpoints.restore_best(model)
        tested = trainer.test(model, data, verbose=False)[0]
        results = checkpoints.latest | checkpoints.record | tested | refinement.results() | screen.facts(model)
        if trainer.is_global_zero:
            trained.save(blocks, folder.path)
            folder.end(results)
    if trainer.is_global_zero:
        screen.show(results, checkpoints.latest, str(folder))


if __name__ == "__main__":
    sys.exit(line.run(main))
