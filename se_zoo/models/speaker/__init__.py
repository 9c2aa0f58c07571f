"""Define active speaker models: face crops and sound in, a score for each frame out."""
