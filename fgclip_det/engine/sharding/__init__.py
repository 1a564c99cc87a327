"""Models whose weights are spread over processes, and their checkpoints."""
