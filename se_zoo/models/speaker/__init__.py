"""Active speaker models: frames of a face and sound in, a score a frame out."""
