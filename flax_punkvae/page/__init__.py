"""How can a person see and play with a model? The explorer in the browser: a local server and its static page."""
