"""What changes with the step: learning rates, weight of the physical loss, decay of the average, the end."""

from microgan.gan.checkpoint import State
from microgan.gan.config import TrainConfig
from microgan.gan.physical_loss import PhysicsConfig


def is_over(state: State, config: TrainConfig) -> bool:
    """Whether all steps are done or the time is over."""
    return state.step >= config.steps or state.seconds >= 60 * config.minutes


def planned_steps(state: State, config: TrainConfig) -> int:
    """How many steps there will be: as many as are asked for, or as the time allows at the pace so far."""
    if not state.step:
        return config.steps
    return min(config.steps, round(state.step * 60 * config.minutes / state.seconds))


def learning_rate_factor(state: State, config: TrainConfig) -> float:
    """Factor of both learning rates: 1, then falling to 0 in the last ``decay_fraction`` of the steps."""
    planned = planned_steps(state, config)
    left = max(planned - state.step, 0)
    return min(1.0, left / (config.decay_fraction * planned)) if config.decay_fraction else 1.0


def physical_weight(step: int, config: PhysicsConfig) -> float:
    """Weight of the physical loss in a step: 0 in the warm-up, then rising in the ramp, then full."""
    return config.weight * min(max((step - config.warm_up) / config.ramp, 0.0), 1.0)


def ema_decay(step: int, config: TrainConfig) -> float:
    """Decay of the moving average in a step: small at first, so that the first weights are soon forgotten."""
    return min(config.ema_decay, (1 + step) / (10 + step))
