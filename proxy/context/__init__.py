"""Trace context: reading it strictly, finding where it rides in a job, writing it without disturbing a byte else."""
