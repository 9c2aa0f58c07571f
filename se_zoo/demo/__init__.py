"""Demos in a browser: a static page that runs the model by itself, and a server."""
