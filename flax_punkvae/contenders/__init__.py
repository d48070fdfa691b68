"""What the benchmark times: our training step, and the reference written for other layers and another framework."""

# Side of the square matrices whose product is taken for the machine's ceiling.
PRODUCT_SIDE = 4096
