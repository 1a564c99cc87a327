"""Who competes with names: texts, and pairs of a name and a text."""
