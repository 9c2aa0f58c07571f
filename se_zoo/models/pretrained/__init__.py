"""Pretrained weights: which there are, fetching, loading and saving them."""
