"""What a model looks at over a whole data set: means, regions, clusters and outliers of maps."""

from .page import write_report

__all__ = ["write_report"]
