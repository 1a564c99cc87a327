"""Necks: from one map of a ViT to a pyramid."""
