"""FG-CLIP, first generation."""
