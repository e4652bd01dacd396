"""What redspan shows of itself: probes by the parent, metrics by the tracer, on one socket."""
