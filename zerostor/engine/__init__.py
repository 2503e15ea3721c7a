"""Use cases over the ports: write, read, check. The only callers of the codec."""
