"""How far samples can be trusted: descriptors, fidelity, image metrics, memorisation, effective properties.

=================== ===================================================================================
module              what others use of it
=================== ===================================================================================
descriptors         `DESCRIPTORS`, the table of all descriptors; `DescriptorValues` of a set of images
real_statistics     `RealStatistics` with the noise floor, `MeasuredImages`, `FidelityConfig`
fidelity            `evaluate` samples against held-out windows; `compare` two sets; `flagged`, `HEADLINE`
homogenisation      `stiffness`, `conductivity` by finite elements; bounds; `PropertiesConfig`
transverse_bounds   `transverse_bounds` of moduli, of any number of phases and holes
image_metrics       `image_metrics` of samples, `RealImageStatistics`, `ImageMetricsConfig`
encoder             features of windows, for `feature_distances` (kernel distance, coverage ...)
memorisation        `memorisation_test`, `nearest_training_windows`; the search is `nearest_windows`
qualified_judge     `QualifiedJudge` of faults, which took no part in filter or training; `judge_headline`
diversity           `diversity` of samples beside that of real windows
=================== ===================================================================================

To add a descriptor: write its function in `microgan.statistics`, call it in
`descriptors.compute_descriptors`, and give it a row in `descriptors.DESCRIPTORS`; evaluation and report then
show it.
"""
