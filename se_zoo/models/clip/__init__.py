"""Models that take clips."""
