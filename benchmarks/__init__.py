"""Measurements of explanations, training, decoding and memory; README.md lists them."""
