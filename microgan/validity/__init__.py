"""Which images are valid: rules, limits calibrated on real windows, verdicts, planted defects."""
