"""Things that are shown instead of said: exemplars, and what stands in for a text."""
