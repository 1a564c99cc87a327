"""Shapes, a generated benchmark."""
