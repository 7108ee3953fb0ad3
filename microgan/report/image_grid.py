"""Images side by side: the only place that imports torchvision.

Nothing else of torchvision serves here: its transforms and networks are for colour photographs, and the
eight symmetries of a window are exact in two lines of numpy.

Its import fails beside a torch build without CUDA. Its wheel registers the operators ``nms`` and ``qnms``
from a library that needs CUDA. Without that, the import ends in "operator torchvision::nms does not exist",
though nothing here uses either. Declaring both is enough, but only where the import has failed: elsewhere
they would be declared twice. So torchvision is imported through this module alone.
"""

import numpy as np
import torch


def image_grid(images: np.ndarray) -> np.ndarray:
    """Put images side by side, about as many down as across.

    Parameters
    ----------
    images
        Shape (n, rows, cols), in [-1, 1].

    Returns
    -------
    ndarray
        One grey picture, uint8.
    """
    stack = torch.from_numpy(np.ascontiguousarray(images))[:, None]
    across = int(np.ceil(len(images) ** 0.5))
    grid = _make_grid(stack, nrow=across, padding=1, normalize=True, value_range=(-1, 1), pad_value=1.0)
    return grid[0].mul(255).round().to(torch.uint8).numpy()


def _make_grid(stack: torch.Tensor, **options: object) -> torch.Tensor:
    try:
        from torchvision.utils import make_grid
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declare_missing_operators()
        from torchvision.utils import make_grid
    return make_grid(stack, **options)


def _declare_missing_operators() -> None:
    # A library's definitions go with it when it is freed, so it is kept where the operators are.
    library = torch.library.Library("torchvision", "FRAGMENT")
    setattr(torch.ops.torchvision, "microgan", library)  # noqa: B010
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
