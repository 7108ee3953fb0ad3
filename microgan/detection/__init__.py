"""Detection of discs: the circles of an image.

- `detect`: `detect` and `detect_all`, for every detector; `detector`: `Detector`, radius band, polarity and
  settings; `circles`: `Circles`, the result.
- `ring` (the default), `opencv`, `watershed`: the detectors.
- `hough`: the accumulator; `peaks`: its maxima; `circle_fit`, `circle_selection`: which circles are
  there, exactly; `wide_band`: a wide radius band is narrowed. The physical loss uses the first two as well.
"""
