"""Costate trains deep networks without the backward lock."""
