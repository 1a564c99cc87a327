"""Annotation files of benchmarks, prepared from the published ones."""
