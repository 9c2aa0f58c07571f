"""Resuming: what a run needs to end as if it had not been interrupted."""
