"""FG-CLIP 2."""
