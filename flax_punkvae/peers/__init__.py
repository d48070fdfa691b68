"""The reference written for other layers and another framework, for the benchmark to hold ours against."""
