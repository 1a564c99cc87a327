"""Benchmarks: run them from the checkout, e.g. `python benchmarks/roi_align.py --help`."""
