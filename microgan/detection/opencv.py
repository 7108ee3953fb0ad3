"""Detection of discs by `cv2.HoughCircles`, for comparison."""

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from microgan.detection.circle_fit import MIN_VISIBLE, Maps, inward
from microgan.detection.circles import Circles
from microgan.detection.detector import Detector
from microgan.detection.hough import GRADIENT_FLOOR, smoothed, usual_edge_square
from microgan.detection.ring import BatchCircles, SmoothedImages, per_image, smoothing_px

EDGE = (
    1.0  # Canny's upper limit over the usual gradient on edges. Larger: few edges. Smaller: noise votes too
)
SOBEL, SCHARR = 8, 32  # what the filters of gradient and gradient_alt make of a ramp of 1 per pixel


def detect_opencv(images: Tensor, detector: Detector) -> list[Circles]:
    """`cv2.HoughCircles`; it knows no polarity and gives no score, so both come from the unit gradient.

    Its limit for edges is in grey values. It is set by the image's own edges: if the range of grey decided,
    the black around a slice, or one bright speck, would leave no edges between discs and matrix.
    """
    sd_px = smoothing_px(detector)
    grey, gradient = smoothed(images, sd_px, detector.polarity)
    usual = usual_edge_square(gradient).sqrt().flatten().tolist()
    smooth = SmoothedImages.of(images, sd_px, detector.polarity)
    tables = [
        _hough_circles(image, edge, detector)
        for image, edge in zip(grey[:, 0].cpu().numpy(), usual, strict=True)
    ]
    image = torch.from_numpy(np.repeat(np.arange(len(tables)), [len(t) for t in tables])).to(images.device)
    circles = torch.from_numpy(np.concatenate(tables)).to(images)
    values, inside = inward(Maps.of(smooth.unit), image, circles)
    values, inside = values[:, 0], inside[:, 0]
    score = (values * inside).sum(1) / inside.sum(1).clamp_min(1)
    candidates = BatchCircles.of(image, circles, score)
    real = (score > 0) & (inside.float().mean(1) >= MIN_VISIBLE)
    real &= smooth.fill(candidates) >= detector.settings.min_fill
    return per_image(candidates.where(real), len(images))


def _hough_circles(grey: np.ndarray, edge: float, detector: Detector) -> np.ndarray:
    """Row, col, radius (n, 3) of what OpenCV finds in a smoothed image with that usual gradient on edges."""
    radius_px, settings = detector.radius_px, detector.settings
    if edge < GRADIENT_FLOOR:
        return np.zeros((0, 3))
    low, high = float(grey.min()), float(grey.max())
    k, levels_per_grey = settings.opencv_scale, 255 / (high - low)
    levels = ((grey - low) * levels_per_grey).astype(np.uint8)
    large = cv2.resize(levels, None, fx=k, fy=k, interpolation=cv2.INTER_CUBIC)
    alt = settings.opencv_method == "gradient_alt"
    votes = settings.opencv_threshold if alt else settings.opencv_threshold * 2 * math.pi * radius_px[0] * k
    hough = cv2.HoughCircles(
        large,
        cv2.HOUGH_GRADIENT_ALT if alt else cv2.HOUGH_GRADIENT,
        dp=1.5 if alt else 1.0,
        minDist=2 * settings.min_separation * radius_px[0] * k,
        param1=max(EDGE * (SCHARR if alt else SOBEL) * edge * levels_per_grey / k, 1.0),
        param2=votes,
        minRadius=math.floor(radius_px[0] * k),
        maxRadius=math.ceil(radius_px[1] * k),
    )
    if hough is None:
        return np.zeros((0, 3))
    col, row, radius = np.asarray(hough, float).reshape(-1, np.shape(hough)[-1])[:, :3].T
    return np.stack([(row + 0.5) / k - 0.5, (col + 0.5) / k - 0.5, radius / k], axis=1)
