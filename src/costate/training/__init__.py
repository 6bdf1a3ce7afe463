"""A run by Lightning: the module that trains stages, its optimizer, its levels, its trainer and its loggers.

    balance -> module <- optimizers       where to cut; stages as a LightningModule; what steps them, at which rate
    levels -> refinement                  which depth in which epoch, and how a network becomes deeper
    trainer, loggers, wandb_run, screen   Lightning's trainer, where numbers go, what is told on the screen

Called by train.py and by benchmarks. Imports all but reports; of callbacks those that a trainer always has.
"""
