"""Training of active speaker models."""
