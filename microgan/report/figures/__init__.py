"""Figures as PNG files, those of the report as SVG too.

matplotlib is imported inside the functions, so that the command line starts quickly.

scan
    Planes with the regions of training, calibration and held-out part; grey-level histogram.
windows
    Images in rows: real and synthetic, valid and rejected, with planted defects, beside training windows.
rules
    What each rule measures beside its limits; the fraction of samples that break each rule.
curves
    Losses and descriptors over their axes.
style
    What all figures have in common.
"""
