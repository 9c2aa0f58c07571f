"""Checks of a data set before training: ``se-zoo check`` and its reports."""
