"""Tools of the maintainers: they write cards, results and packaged models."""
