"""How a trained network does on some data: scores, a table of its classes, what it takes for what, each prediction."""
