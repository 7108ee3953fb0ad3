"""Generators and critics: networks, losses, the physical loss, training, sampling.

- `training`: `train`, the loop, and `Trained`, its result; `config`: `TrainConfig` and `ModelConfig`.
- `steps`: `critic_step` and `generator_step`; `schedule`: what changes with the step; `runtime`: device,
  precision.
- `losses`: the adversarial losses; `physical_loss`: `Material`, `physical_loss` and the table `TERMS` of its
  terms; `soft_circles`: circles with a gradient, for it.
- `checkpoint_selection`: `CheckpointScore` and `selected`, by which one of a training's generators is kept.
- `checkpoint`: `save_model` and `load_model`; the state from which an interrupted training goes on.
- `sampling`: `sample` and `sample_to_tiff`; `networks`: `Generator` and `Critic`; `distributed`: several
  processes.
"""
