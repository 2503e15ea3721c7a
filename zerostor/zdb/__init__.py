"""The embedded metadata server: 0-db's protocol over an append-only log."""
