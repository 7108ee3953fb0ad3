"""One training by several processes, as `torchrun` starts them; alone, everything here does nothing.

Every process draws the whole batch and takes its part, gradients are averaged, batch norm sees the whole
batch. So the same training comes out, to rounding, whatever the number of processes; and the gradient
penalty, a mean over samples, needs no special care.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import Tensor, nn

from microgan.core.errors import UserError

TIMEOUT = timedelta(minutes=30)  # of a process that waits for the others, which may validate samples


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, over NCCL between GPUs and over gloo otherwise."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process; the first one, 0, is the one that logs and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def shard(batch: Tensor) -> Tensor:
    """Return this process's part of a batch that all have drawn alike.

    Raises
    ------
    UserError
        If it cannot be divided equally, as only means over equal parts average to the mean over the batch.
    """
    if len(batch) % world_size():
        raise UserError("batch", len(batch), f"must be a multiple of the {world_size()} processes")
    return batch.chunk(world_size())[rank()]


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of a loss over this process's part by those of the loss over the batch."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(joined)
    joined /= world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(joined[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def mean(values: Tensor) -> Tensor:
    """Return the mean over all processes, without derivative."""
    values = values.detach().clone()
    if world_size() > 1:
        dist.all_reduce(values)
    return values / world_size()


def of_first(value: float) -> float:
    """Return the value of the first process, so that all decide alike."""
    if world_size() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    sent = torch.tensor(value, device=device, dtype=torch.double)
    dist.broadcast(sent, 0)
    return sent.item()


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes; torch's `SyncBatchNorm` runs on GPUs alone."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        count = input.numel() // input.shape[1] * world_size()
        values = input.float()
        moments = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        mean, square = (differentiable.all_reduce(moments) / count).chunk(2)
        variance = (square - mean.square()).clamp_min(0)
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(input.dtype)
