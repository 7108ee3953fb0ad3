"""Learn a microstructure from tomography slices, generate new ones, keep the valid ones, export them.

The names in ``__all__`` are the public face. Each is imported when it is first used, so that ``import
microgan`` and ``microgan --help`` stay fast. Coordinates are always ``(plane, row, col)``; grey values inside
the library are normalised to ``[-1, 1]``.

The library imports neither DVC nor MLflow nor YAML; ``stages`` do. One module,
`microgan.samples.model_store`, runs MLflow's program, and only for a model given by its name in MLflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microgan.core.domain import Domain
    from microgan.detection.detect import detect
    from microgan.detection.detector import Detector
    from microgan.exporters.export import ExportConfig, export
    from microgan.exporters.export_input import ExportInput
    from microgan.gan.checkpoint import load_model
    from microgan.gan.sampling import sample
    from microgan.validity.judging import judge
    from microgan.validity.phase import phase_image
    from microgan.validity.reference import Reference

__version__ = "0.1.0"

__all__ = [
    "Detector",
    "Domain",
    "ExportConfig",
    "ExportInput",
    "Reference",
    "detect",
    "export",
    "judge",
    "load_model",
    "phase_image",
    "sample",
]

_MODULES = {
    "Detector": "microgan.detection.detector",
    "Domain": "microgan.core.domain",
    "ExportConfig": "microgan.exporters.export",
    "ExportInput": "microgan.exporters.export_input",
    "Reference": "microgan.validity.reference",
    "detect": "microgan.detection.detect",
    "export": "microgan.exporters.export",
    "judge": "microgan.validity.judging",
    "load_model": "microgan.gan.checkpoint",
    "phase_image": "microgan.validity.phase",
    "sample": "microgan.gan.sampling",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
