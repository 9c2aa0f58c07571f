"""Videos: indexing, decoding, sampling of clips."""
