"""Make the embedded scan, as a scanner would: ``python -m stages.simulate``."""

from microgan.scan.simulate import SimulateConfig, simulate_scan
from stages.stage import Stage, run


def main(stage: Stage) -> None:
    """Write data/raw/simulated."""
    config = stage.config("simulate", SimulateConfig)
    with stage.drafts("data/raw/simulated") as (folder,):
        simulate_scan(config, folder)


if __name__ == "__main__":
    run(main)
