"""Bytes from clients to Redis and back. `session` decides, without I/O; `server` moves."""
