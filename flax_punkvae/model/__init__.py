"""What is PunkVAE? Pure mathematics on arrays: no config, no files, no dataset."""
