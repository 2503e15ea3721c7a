"""Adapters of ports.MetadataStore."""
