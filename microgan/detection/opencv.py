"""Detection of discs by `cv2.HoughCircles`, for comparison."""

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from microgan.detection.circle_fit import MIN_VISIBLE, Maps, inward
from microgan.detection.circles import Circles, DetectorConfig, Polarity
from microgan.detection.hough import GRADIENT_FLOOR
from microgan.detection.ring import Fields, Found, per_image, smoothing_px


def detect_opencv(
    images: Tensor, radius_px: tuple[float, float], polarity: Polarity, config: DetectorConfig
) -> list[Circles]:
    """`cv2.HoughCircles`; it knows no polarity and gives no score, so both come from the unit gradient."""
    fields = Fields.of(images, smoothing_px(radius_px, config), polarity)
    tables = [_hough_circles(image, radius_px, config) for image in images[:, 0].cpu().numpy()]
    image = torch.from_numpy(np.repeat(np.arange(len(tables)), [len(t) for t in tables])).to(images.device)
    circles = torch.from_numpy(np.concatenate(tables)).to(images)
    values, inside = inward(Maps.of(fields.unit), image, circles)
    values, inside = values[:, 0], inside[:, 0]
    score = (values * inside).sum(1) / inside.sum(1).clamp_min(1)
    found = Found(image, circles, score, torch.zeros_like(circles[:, :2]))
    real = (found.score > 0) & (inside.float().mean(1) >= MIN_VISIBLE)
    return per_image(found.where(real & (fields.fill(found) >= config.min_fill)), len(images))


def _hough_circles(image: np.ndarray, radius_px: tuple[float, float], config: DetectorConfig) -> np.ndarray:
    low, high = np.percentile(image, (0.5, 99.5))
    if high - low < GRADIENT_FLOOR:
        return np.zeros((0, 3))
    k = config.opencv_scale
    levels = np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    levels = cv2.resize(levels, None, fx=k, fy=k, interpolation=cv2.INTER_CUBIC)
    alt = config.opencv_method == "gradient_alt"
    votes = config.opencv_threshold if alt else config.opencv_threshold * 2 * math.pi * radius_px[0] * k
    found = cv2.HoughCircles(
        levels,
        cv2.HOUGH_GRADIENT_ALT if alt else cv2.HOUGH_GRADIENT,
        dp=1.5 if alt else 1.0,
        minDist=2 * config.min_separation * radius_px[0] * k,
        param1=200.0 if alt else 60.0,  # Canny's upper limit, on Scharr and Sobel gradients
        param2=votes,
        minRadius=math.floor(radius_px[0] * k),
        maxRadius=math.ceil(radius_px[1] * k),
    )
    if found is None:
        return np.zeros((0, 3))
    col, row, radius = np.asarray(found, float).reshape(-1, np.shape(found)[-1])[:, :3].T
    return np.stack([(row + 0.5) / k - 0.5, (col + 0.5) / k - 0.5, radius / k], axis=1)
