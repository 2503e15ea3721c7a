"""Stand-ins for the world, seeded, and a whole grid in one process."""
