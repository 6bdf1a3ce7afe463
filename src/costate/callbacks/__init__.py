"""Callbacks that measure a training and never touch its arithmetic, and those that keep or end it.

    measurement   when to measure, where numbers go;  gradients, probes, speed, peak_memory: what conf/callbacks offers
    checkpoints   what is kept, and a run that is interrupted        course   an early end, longer sequences, one batch

Lightning's trainer calls them. They read the training module, its stages and its execution, and import no training.
"""
