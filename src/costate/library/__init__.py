"""Costate for plain PyTorch: a model of layers cut into stages, boundaries to be put into a forward by hand.

Needs torch alone, neither Lightning nor Hydra, and nothing of Costate but words for shapes; `import costate` gives it.
"""
