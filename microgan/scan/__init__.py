"""Scans: readers, planes, windows, images in files, and a simulated scan with its truth."""
