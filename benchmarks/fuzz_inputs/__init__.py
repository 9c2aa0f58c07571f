"""Inputs for :mod:`benchmarks.fuzz`: for each reader, what is written and how it is read."""
