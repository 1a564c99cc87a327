"""Results of another detector, scored anew."""
