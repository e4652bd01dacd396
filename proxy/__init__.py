"""redspan: distributed tracing for Redis job queues, on the wire."""

__version__ = "0.1.0"
