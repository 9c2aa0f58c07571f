"""Videos: numbering frames, decoding them, sampling clips."""
