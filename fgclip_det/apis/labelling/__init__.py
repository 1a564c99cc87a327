"""Labels for training, from a detector that is asked in words."""
