"""Nodes: ESP32s that dial in and keep chunks."""
