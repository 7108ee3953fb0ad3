"""Statistics of phase images and circles, with estimators, intervals and tests.

=================== ===================================================================================
module              what others use of it
=================== ===================================================================================
estimators          `Curve`, `Distribution`: what is measured, image by image; `relative_distance`
phase_descriptors   functions of phase images: `two_point_correlation`, `lineal_path`, `minkowski` ...
point_patterns      functions of circles: `radius_distribution`, `ripley_k`, `hexatic_order` ...; `Discs`
resampling          `global_test` and `equivalence` of two curves, by the bootstrap
intervals           `wilson_interval` of a fraction
=================== ===================================================================================

A new descriptor begins here, as a function that returns a `Curve`, a `Distribution` or one value an image; a
row in `microgan.evaluation.descriptors.DESCRIPTORS` makes it part of evaluation and report.
"""
