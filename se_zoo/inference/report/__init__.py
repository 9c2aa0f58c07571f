"""What a model looks at over a whole data set: means, regions, clusters and outliers of maps."""
