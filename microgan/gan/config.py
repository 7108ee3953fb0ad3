"""Parameters of a training: those that all models share, and those by which models differ."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from microgan.core.config import Config
from microgan.gan.losses import Adversarial
from microgan.gan.networks import NetworkConfig
from microgan.gan.physical_loss import PhysicsConfig
from microgan.scan.windows import Augmentation


class TrainConfig(NetworkConfig):
    """What all models share: sizes of the networks, length of the training, numerics, log."""

    steps: int = Field(3000, ge=1)
    minutes: float | None = Field(None, gt=0)
    batch: int = Field(8, ge=2)
    scanner_noise: float = Field(0.5, ge=0, le=1)
    augmentation: Augmentation = "mirrors"
    ema_decay: float = Field(0.998, ge=0, lt=1)
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    threads: int | None = Field(None, ge=1)
    log_every: int = Field(50, ge=1)
    preview_every: int = Field(1000, ge=1)
    preview_count: int = Field(16, ge=1)
    validation_every: int = Field(500, ge=1)
    validation_count: int = Field(256, ge=1)
    init_from: Path | None = None
    decay_fraction: float = Field(0.5, ge=0, le=1)
    physics: PhysicsConfig = PhysicsConfig()
    save_every: int = Field(500, ge=1)


class ModelConfig(Config):
    """By what models differ: the adversarial loss, the optimisers, and how long they need."""

    loss: Adversarial
    critic_steps: int = Field(1, ge=1)
    gradient_penalty: float = Field(0.0, ge=0)
    score_penalty: float = Field(0.0, ge=0)
    generator_learning_rate: float = Field(4e-4, gt=0)
    critic_learning_rate: float = Field(4e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.999)
    steps_factor: float = Field(1.0, gt=0)

    def steps(self, config: TrainConfig) -> int:
        """Return how many generator steps this model takes."""
        return max(round(self.steps_factor * config.steps), 1)

    @model_validator(mode="after")
    def _check(self) -> "ModelConfig":
        if any(not 0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas must be at least 0 and below 1")
        if (self.loss == "wasserstein") != (self.gradient_penalty > 0):
            raise ValueError("gradient_penalty must be positive with loss wasserstein, and 0 with any other")
        return self


# As params.yaml has them.
MODELS = {
    "dcgan": ModelConfig.from_mapping({"loss": "non_saturating", "score_penalty": 0.05}, "models.dcgan"),
    "wgan_gp": ModelConfig.from_mapping(
        {
            "loss": "wasserstein",
            "gradient_penalty": 10.0,
            "generator_learning_rate": 5e-4,
            "critic_learning_rate": 1e-3,
            "betas": (0.0, 0.99),
            "steps_factor": 1.5,
        },
        "models.wgan_gp",
    ),
}
