"""Photos and clips in, explanations out."""
