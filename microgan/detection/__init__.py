"""Finding discs in images: the circle Hough transform and detectors."""
