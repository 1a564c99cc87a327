"""CLIP and SigLIP 2 as baselines: their checkpoints in the layout of the two generations."""
