"""List, fetch, load and save pretrained weights."""
