"""Predict and explain data sets of any size: sources, the run, and its manifest."""
