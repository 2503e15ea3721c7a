"""Adapters of ports.ShardStore, one kind of place a file, and the guard that wraps any of them."""
