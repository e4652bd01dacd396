"""A seeded mutator over both directions of a session."""
