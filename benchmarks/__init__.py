"""Measurements of microgan against other programs; nothing in the library or the pipeline depends on them."""
