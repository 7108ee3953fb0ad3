"""Which images are valid: rules, limits calibrated on real windows, verdicts, detection rates.

==================  ===================================================================================
`segmentation`      `Segmentation`: how discs and disc phase of one scan are found
`reference`         `Reference`: that, and the limits of the rules, stored as reference.json
`measuring`         `MeasuredWindows`: the circles and measures of many images, before any limit
`real_measures`     `RealMeasures`: real windows measured once, with and without planted defects
`calibration`       `calibrate` limits on real windows; `CalibrationConfig`
`judging`           `judge` windows by a reference: `Verdict`, `pass_rate`, `rejected_by`
`large_images`      `judge_large_image`: images larger than a window, by all of their windows
`phase`             `phase_image`: where an image is disc phase
`rules`             `RULES`: what each rule measures, why it rejects, how it is weighted
`evidence`          `Evidence`: what the rules read from one image; the argument of own rules
`own_rules`         `OwnRule`: a Python function of the user's own, imported by name
`planted_defects`   `plant` one known defect, or a control, into an image
`planting`          the brush, and each defect and control
`detection_rate`    `PlantedDefects` in real windows, and how often the rules reject each kind
`random_packing`    `fit_packing`: sound images by construction; the baseline that a generator must beat
`usefulness`        `all_doubts`: what speaks against relying on a reference
==================  ===================================================================================
"""
