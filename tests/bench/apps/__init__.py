"""Applications to measure, as users write them: they know a URL, and nothing of redspan."""
