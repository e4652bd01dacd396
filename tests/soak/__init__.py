"""Reloads, kills and restarts of redspan's processes, under load, for minutes."""
