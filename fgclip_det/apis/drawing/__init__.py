"""What was found, drawn so that it can be read."""
