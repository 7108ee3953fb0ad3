"""Where an image is disc phase: its grey values, slightly smoothed, beyond one threshold."""

from typing import TYPE_CHECKING

import torch
from scipy import ndimage
from torch import Tensor

from microgan.detection.detector import Polarity
from microgan.validity.evidence import SMOOTHING_PX

if TYPE_CHECKING:
    from microgan.validity.segmentation import Segmentation


def phase_image(images: Tensor, segmentation: "Segmentation") -> Tensor:
    """Return where normalised images (N, 1, H, W) are disc phase: bool (N, H, W), for either polarity."""
    return disc_phase(images, segmentation.phase_threshold, segmentation.polarity)


def disc_phase(images: Tensor, threshold: float, polarity: Polarity) -> Tensor:
    """Return where images (N, 1, H, W) are brighter, or darker for dark discs, than a threshold."""
    smooth = smoothed_grey(images)[:, 0]
    return smooth > threshold if polarity == "bright" else smooth < threshold


def smoothed_grey(images: Tensor) -> Tensor:
    """Return images (N, 1, H, W) without most of the pixel noise, for the threshold between the phases."""
    smooth = ndimage.gaussian_filter(images.cpu().numpy(), (0, 0, SMOOTHING_PX, SMOOTHING_PX), mode="nearest")
    return torch.from_numpy(smooth)
