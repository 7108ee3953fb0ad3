"""What changes with the step: learning rates, weight of the physical loss, decay of the average, the end.

Steps decide, not the clock: what a training yields depends on parameters, data and seed alone. Only where
the user sets a time, it may end a training before its last step.
"""

from microgan.gan.checkpoint import State
from microgan.gan.config import TrainConfig
from microgan.gan.physical_loss import PhysicsConfig


def is_over(state: State, config: TrainConfig) -> bool:
    """Whether all steps are done or the time, if there is a limit, is over."""
    return state.step >= config.steps or (config.minutes is not None and state.seconds >= 60 * config.minutes)


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    """Factor of both learning rates: 1, then falling to 0 in the last ``decay_fraction`` of the steps."""
    left = max(config.steps - step, 0)
    return min(1.0, left / (config.decay_fraction * config.steps)) if config.decay_fraction else 1.0


def physical_weight(step: int, config: PhysicsConfig) -> float:
    """Weight of the physical loss in a step: 0 in the warm-up, then rising in the ramp, then full."""
    return config.weight * min(max((step - config.warm_up) / config.ramp, 0.0), 1.0)


def ema_decay(step: int, config: TrainConfig) -> float:
    """Decay of the moving average in a step: small at first, so that the first weights are soon forgotten."""
    return min(config.ema_decay, (1 + step) / (10 + step))
