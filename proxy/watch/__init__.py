"""Commands that look at a running redspan by its admin address."""
