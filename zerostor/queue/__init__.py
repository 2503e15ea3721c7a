"""Adapters of JobQueue: Redis Streams for production, a dict for tests and simulations."""
