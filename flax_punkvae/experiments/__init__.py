"""The programs, one a file: run with `python -m flax_punkvae.experiments.NAME`."""
