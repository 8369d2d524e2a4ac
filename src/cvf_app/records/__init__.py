"""Record queries: asked, compiled, answered through disclosure, kept."""
