"""Training and testing in several processes: how they start, wait for each other and end."""
