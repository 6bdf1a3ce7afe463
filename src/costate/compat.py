"""Moved: `import costate` does it."""
