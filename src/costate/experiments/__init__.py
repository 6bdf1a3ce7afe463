"""python -m costate.experiments: the programs that Costate answers to, run and compared with what they must reach."""
