"""How discs and disc phase of one scan are found: `Segmentation`. It knows nothing of limits."""

from typing import Literal, Self

from pydantic import Field
from skimage.filters import threshold_otsu
from torch import Tensor

from microgan.core.config import Config
from microgan.detection.detector import Detector, DetectorConfig
from microgan.scan.planes import ScanInfo
from microgan.validity.phase import smoothed_grey


class Segmentation(Config):
    """The detector of discs and the threshold of the disc phase, for windows of one scan.

    Attributes
    ----------
    scan : the scan that the windows come from, with the digest of its planes
    window_px : side of the windows
    detector_settings : of the detector of discs
    phase_threshold : normalised grey; brighter (darker, for dark discs) is disc phase
    """

    scan: ScanInfo
    window_px: int = Field(ge=8)
    detector_settings: DetectorConfig
    phase_threshold: float = Field(ge=-1, le=1)

    @property
    def detector(self) -> Detector:
        """The detector of discs, with the radius band and polarity of the scan."""
        return Detector(self.scan.radius_px, self.scan.polarity, self.detector_settings)

    @property
    def radius_px(self) -> tuple[float, float]:
        """Smallest and largest radius that is searched for."""
        return self.scan.radius_px

    @property
    def polarity(self) -> Literal["bright", "dark"]:
        """Whether discs are brighter or darker than the matrix."""
        return self.scan.polarity

    @classmethod
    def of(cls, windows: Tensor, scan: ScanInfo, settings: DetectorConfig) -> Self:
        """Set the threshold by the grey values of real ``windows`` (N, 1, S, S) in [-1, 1] (Otsu 1979)."""
        threshold = float(threshold_otsu(smoothed_grey(windows).numpy()))
        return cls(
            scan=scan.excerpt(),
            window_px=windows.shape[-1],
            detector_settings=settings,
            phase_threshold=threshold,
        )
