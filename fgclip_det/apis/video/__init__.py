"""Videos: their frames, the objects in them, and drawings that can be played."""
