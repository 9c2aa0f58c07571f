"""Explain photos and videos: read, cut and normalise them as a model needs."""
