"""Damage to shards, by the million where asked: all is found, none is served, all is mended."""
