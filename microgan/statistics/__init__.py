"""Statistics of phase images and circles, with estimators, intervals and tests."""
