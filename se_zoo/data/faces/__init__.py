"""Face tracks with their sound."""
