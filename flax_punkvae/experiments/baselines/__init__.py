"""What the benchmark times: our training step, and the reference written for other layers and another framework."""
