"""RoI heads: boxes, masks and names of regions."""
