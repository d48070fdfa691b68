"""How good is a set of sprites, a code, a latent? Pure functions on arrays."""
