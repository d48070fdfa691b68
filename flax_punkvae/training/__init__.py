"""How is it trained? The state, the steps, the loop, and what a run leaves on disk."""
