"""Image backbones: FG-CLIP as the frozen body of a detector."""
