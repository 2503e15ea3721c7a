"""The HTTP faces, one group of routes a file."""
