"""Regions of pictures: their frames, their names, their targets."""
