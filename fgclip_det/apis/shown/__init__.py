"""Things that are shown instead of said: exemplars looked at by a detector or an encoder."""
