"""Detection of discs by `cv2.HoughCircles`, for comparison."""

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from microgan.detection.circle_fit import MIN_VISIBLE, Maps, inward
from microgan.detection.circles import Circles
from microgan.detection.detector import Detector
from microgan.detection.hough import GRADIENT_FLOOR
from microgan.detection.ring import BatchCircles, SmoothedImages, per_image, smoothing_px


def detect_opencv(images: Tensor, detector: Detector) -> list[Circles]:
    """`cv2.HoughCircles`; it knows no polarity and gives no score, so both come from the unit gradient."""
    smooth = SmoothedImages.of(images, smoothing_px(detector), detector.polarity)
    tables = [_hough_circles(image, detector) for image in images[:, 0].cpu().numpy()]
    image = torch.from_numpy(np.repeat(np.arange(len(tables)), [len(t) for t in tables])).to(images.device)
    circles = torch.from_numpy(np.concatenate(tables)).to(images)
    values, inside = inward(Maps.of(smooth.unit), image, circles)
    values, inside = values[:, 0], inside[:, 0]
    score = (values * inside).sum(1) / inside.sum(1).clamp_min(1)
    candidates = BatchCircles.of(image, circles, score)
    real = (score > 0) & (inside.float().mean(1) >= MIN_VISIBLE)
    real &= smooth.fill(candidates) >= detector.settings.min_fill
    return per_image(candidates.where(real), len(images))


def _hough_circles(image: np.ndarray, detector: Detector) -> np.ndarray:
    """Row, col, radius (n, 3) of what OpenCV finds in one image."""
    radius_px, settings = detector.radius_px, detector.settings
    low, high = np.percentile(image, (0.5, 99.5))
    if high - low < GRADIENT_FLOOR:
        return np.zeros((0, 3))
    k = settings.opencv_scale
    levels = np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    levels = cv2.resize(levels, None, fx=k, fy=k, interpolation=cv2.INTER_CUBIC)
    alt = settings.opencv_method == "gradient_alt"
    votes = settings.opencv_threshold if alt else settings.opencv_threshold * 2 * math.pi * radius_px[0] * k
    hough = cv2.HoughCircles(
        levels,
        cv2.HOUGH_GRADIENT_ALT if alt else cv2.HOUGH_GRADIENT,
        dp=1.5 if alt else 1.0,
        minDist=2 * settings.min_separation * radius_px[0] * k,
        param1=200.0 if alt else 60.0,  # Canny's upper limit, on Scharr and Sobel gradients
        param2=votes,
        minRadius=math.floor(radius_px[0] * k),
        maxRadius=math.ceil(radius_px[1] * k),
    )
    if hough is None:
        return np.zeros((0, 3))
    col, row, radius = np.asarray(hough, float).reshape(-1, np.shape(hough)[-1])[:, :3].T
    return np.stack([(row + 0.5) / k - 0.5, (col + 0.5) / k - 0.5, radius / k], axis=1)
