"""Costate for plain PyTorch: needs torch alone, neither Lightning nor Hydra."""
