"""Real windows of a scan, measured once: what limits are fixed on, and what shows how far they protect.

`RealMeasures` depends on the scan and the detector alone. `calibrated` fixes limits by it, in seconds.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from microgan.scan.planes import Planes
from microgan.validity.calibration import (
    CalibrationConfig,
    calibrate_measured,
    calibration_windows,
    held_out_windows,
    with_held_out,
)
from microgan.validity.detection_rate import PlantedDefects
from microgan.validity.learnt.learnt_rule import LearntFaults
from microgan.validity.measuring import MeasuredWindows
from microgan.validity.own_rules import import_own_rules
from microgan.validity.reference import Reference
from microgan.validity.segmentation import Segmentation
from microgan.validity.usefulness import all_doubts


@dataclass(frozen=True)
class RealMeasures:
    """Real windows as the rules read them.

    Attributes
    ----------
    segmentation : how discs and disc phase are found
    calibration : windows that limits are fixed on
    held_out : windows by whose pass rate that of samples is compared
    defects : windows with planted defects
    learnt : the networks whose measures are among these
    """

    segmentation: Segmentation
    calibration: MeasuredWindows
    held_out: MeasuredWindows
    defects: PlantedDefects
    learnt: LearntFaults | None = None

    @classmethod
    def of(cls, planes: Planes, window_px: int, config: CalibrationConfig) -> Self:
        """Find the discs of real windows and measure them by microgan's own rules."""
        windows, _ = calibration_windows(planes, window_px, config)
        segmentation = Segmentation.of(windows, planes.info, config.detector)
        return cls(
            segmentation,
            MeasuredWindows.of(windows, segmentation),
            MeasuredWindows.of(held_out_windows(planes, window_px, config), segmentation),
            PlantedDefects.plant(planes, segmentation, config.seed, config.planted),
        )

    def and_by_own_rules(self, planes: Planes, config: CalibrationConfig) -> Self:
        """Return the same with the measures of the user's own rules; ``planes`` are those of `of`."""
        rules, segmentation = import_own_rules(config.own), self.segmentation
        if not rules:
            return self
        windows, _ = calibration_windows(planes, segmentation.window_px, config)
        held_out = held_out_windows(planes, segmentation.window_px, config)
        return replace(
            self,
            calibration=self.calibration.and_by(windows, segmentation, rules),
            held_out=self.held_out.and_by(held_out, segmentation, rules),
            defects=self.defects.and_by(segmentation, rules),
        )

    def and_learnt(self, planes: Planes, config: CalibrationConfig, learnt: LearntFaults) -> Self:
        """Return the same with what networks see; ``planes`` are those of `of`."""
        windows, half = calibration_windows(planes, self.segmentation.window_px, config)
        held_out = held_out_windows(planes, self.segmentation.window_px, config)
        return replace(
            self,
            calibration=self.calibration.and_learnt(windows, learnt, half),
            held_out=self.held_out.and_learnt(held_out, learnt),
            defects=self.defects.and_learnt(self.segmentation, learnt),
            learnt=learnt,
        )

    def calibrated(self, config: CalibrationConfig) -> Reference:
        """Fix limits, and say how far they protect: on held-out windows, on planted defects, in words.

        Raises
        ------
        UserError
            If the limits protect from nothing; see `microgan.validity.usefulness`.
        """
        reference = with_held_out(
            calibrate_measured(self.calibration, self.segmentation, config, self.learnt), self.held_out
        )
        planted = self.defects.judged(reference, config.planted)
        rates = {name: defect.detection_rate for name, defect in planted.items()}
        radii = [circles.radius_px for circles in self.calibration.circles]
        doubts = all_doubts(radii, reference.radius_px, rates, reference.held_out_pass_rate)
        return reference.model_copy(update={"detection_rates": rates, "doubts": doubts})

    def standard(self) -> Reference:
        """Fix limits by microgan's own rules with their standard weights and budget.

        By these, training scores its checkpoints, so that no weights depend on the user's choice of limits.
        """
        settings = CalibrationConfig.from_mapping(
            {"detector": self.segmentation.detector_settings, "bootstrap": 0}, "calibrate"
        )
        return calibrate_measured(self.calibration, self.segmentation, settings)

    def save(self, folder: Path) -> None:
        """Write all measures and circles as CSV into ``folder``."""
        self.calibration.save(*_files(folder, "calibration"))
        self.held_out.save(*_files(folder, "held_out"))
        self.defects.save(folder)

    @classmethod
    def load(
        cls, folder: Path, planes: Planes, segmentation: Segmentation, config: CalibrationConfig
    ) -> Self:
        """Read what `save` wrote; the other parameters as in `of`."""
        calibration, held_out = (
            MeasuredWindows.load(*_files(folder, name)) for name in ("calibration", "held_out")
        )
        defects = PlantedDefects.load(folder, planes, segmentation, config.seed, config.planted)
        return cls(segmentation, calibration, held_out, defects)


def load_held_out(folder: Path) -> MeasuredWindows:
    """Read the held-out windows alone of what `RealMeasures.save` wrote."""
    return MeasuredWindows.load(*_files(folder, "held_out"))


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}_measures.csv", folder / f"{name}_circles.csv"
