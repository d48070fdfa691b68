"""How does a model leave this machine? A folder of plain files, its card, and the Hugging Face hub."""
