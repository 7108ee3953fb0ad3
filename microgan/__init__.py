"""Learn a microstructure from tomography slices, generate new ones, keep the valid ones, export them.

The library knows nothing of DVC, MLflow or YAML: those live in ``stages``. Coordinates are always
``(plane, row, col)``; grey values inside the library are normalised to ``[-1, 1]``.
"""

__version__ = "0.1.0"
