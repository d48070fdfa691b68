"""The implementations that the benchmark times: our step, the reference in plain Flax layers and in PyTorch."""
