"""Make the embedded scan, as a scanner would: ``python -m stages.simulate``."""

from pathlib import Path

from microgan.scan.simulate import SimulateConfig, simulate_scan
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Write data/raw/simulated."""
    config = stage.config("simulate", SimulateConfig)
    simulate_scan(config, Path("data/raw/simulated"))


if __name__ == "__main__":
    run(main)
