"""Resuming: an interrupted run ends as if it had not been interrupted."""
