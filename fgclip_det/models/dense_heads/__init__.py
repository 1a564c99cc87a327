"""Dense heads: region proposals."""
