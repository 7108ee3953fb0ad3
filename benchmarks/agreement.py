"""Do two independent detectors agree on a real scan? `python -m benchmarks.agreement data/planes`.

The ring detector against the watershed, on random windows of planes that the ingest stage wrote. The F1 score
is that of discs whose centres are at least a radius inside; a window counts as dense if the watershed's discs
cover half of it. The truth is unknown: a picture of both shows which one is right.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from benchmarks.detector import matched
from microgan.core.files import atomic
from microgan.detection.circles import Circles
from microgan.detection.detect import detect
from microgan.detection.detector import Detector, DetectorConfig
from microgan.scan.planes import Planes
from microgan.scan.windows import Windows

DENSE = 0.5
MAGNIFY = 6
BOTH, RING, WATERSHED = (0, 160, 0), (0, 0, 255), (255, 128, 0)  # blue, green, red


def main() -> None:
    """Print a table; write a picture of the first windows where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("planes", type=Path, help="folder of the ingest stage: data/planes")
    parser.add_argument("--windows", type=int, default=24, help="of each role")
    parser.add_argument("--size", type=int, default=128, help="of a window, px")
    parser.add_argument(
        "--picture", type=Path, help="PNG; green: both, red: ring alone, blue: watershed alone"
    )
    options = parser.parse_args()
    planes = Planes.load(options.planes)
    print(f"{planes.info.name}, {options.windows} windows of {options.size} px of each role")
    print(f"{'role':<12} {'windows':<8} {'F1':>6} {'both':>6} {'ring':>6} {'watershed':>9}")
    for role in ("train", "calibration", "held_out"):
        try:
            windows = Windows(planes, role, options.size)
        except ValueError:
            continue
        images = windows.draw(np.random.default_rng(0), options.windows)
        radius_px, polarity = planes.info.radius_px, planes.info.polarity
        ring, watershed = (
            detect(images, Detector(radius_px, polarity, DetectorConfig(backend=backend)))
            for backend in ("ring", "watershed")
        )
        counts = np.array([agreement(*pair, options.size) for pair in zip(ring, watershed, strict=True)])
        covered = np.array([_covered(circles, options.size) for circles in watershed])
        for name, chosen in (("all", covered >= 0), ("dense", covered >= DENSE)):
            both, ring_alone, watershed_alone = counts[chosen].sum(0).tolist()
            f1 = 2 * both / max(2 * both + ring_alone + watershed_alone, 1)
            figures = f"{f1:>6.3f} {both:>6} {ring_alone:>6} {watershed_alone:>9}"
            print(f"{role:<12} {name:<4} {chosen.sum():>3} {figures}")
        if options.picture and role == "held_out":
            _picture(images[:4, 0].numpy(), ring, watershed, options.picture)


def agreement(ring: Circles, watershed: Circles, size_px: int) -> tuple[int, int, int]:
    """Count discs of both detectors, the ring alone, the watershed alone, except those near the border."""
    pairs = matched(ring.table(), watershed.table())
    inside = [_far_from_border(circles, size_px) for circles in (ring, watershed)]
    both = int(inside[0][pairs[:, 0]].sum())
    alone = [int(np.delete(far, pairs[:, side]).sum()) for side, far in enumerate(inside)]
    return both, alone[0], alone[1]


def _far_from_border(circles: Circles, size_px: int) -> np.ndarray:
    centres = np.stack([circles.row, circles.col])
    return (np.minimum(centres, size_px - 1 - centres) >= circles.radius_px).all(0)


def _covered(circles: Circles, size_px: int) -> float:
    inside = (np.stack([circles.row, circles.col]) >= 0).all(0)
    inside &= (np.stack([circles.row, circles.col]) <= size_px - 1).all(0)
    return float(np.pi * (circles.radius_px[inside] ** 2).sum() / size_px**2)


def _picture(images: np.ndarray, ring: list[Circles], watershed: list[Circles], path: Path) -> None:
    tiles = []
    for image, ring_circles, watershed_circles in zip(images, ring, watershed, strict=False):
        grey = ((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
        tile = cv2.cvtColor(cv2.resize(grey, None, fx=MAGNIFY, fy=MAGNIFY), cv2.COLOR_GRAY2BGR)
        pairs = matched(ring_circles.table(), watershed_circles.table())
        for index, circle in enumerate(ring_circles.table()):
            _draw(tile, circle, BOTH if index in pairs[:, 0] else RING)
        for circle in np.delete(watershed_circles.table(), pairs[:, 1], axis=0):
            _draw(tile, circle, WATERSHED)
        tiles.append(tile)
    with atomic(path) as draft:
        draft.write_bytes(cv2.imencode(".png", np.hstack(tiles))[1].tobytes())


def _draw(tile: np.ndarray, circle: np.ndarray, colour: tuple[int, int, int]) -> None:
    row, col, radius = circle[:3]
    centre = (round((col + 0.5) * MAGNIFY), round((row + 0.5) * MAGNIFY))
    cv2.circle(tile, centre, round(radius * MAGNIFY), colour, 1, cv2.LINE_AA)


if __name__ == "__main__":
    main()
