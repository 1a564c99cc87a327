"""Detectors, and what they share."""
