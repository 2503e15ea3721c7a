"""zerostor: one place that keeps a file for good."""

__version__ = "0.1.0"
