"""Define models that take clips."""
