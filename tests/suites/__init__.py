"""Other people's test suites, run directly and through the sidecar: the results must be the same."""
