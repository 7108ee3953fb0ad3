"""What a training runs on: device, precision, compiled networks, threads."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from microgan import __version__
from microgan.core.errors import UserError
from microgan.gan.config import TrainConfig
from microgan.gan.distributed import world_size


def choose_device(wanted: str) -> torch.device:
    """Return the device of that name; ``auto`` takes CUDA, then MPS, then the CPU."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[wanted]:
        raise UserError("device", wanted, "this machine has no such device")
    # torchrun gives each process of a machine a GPU of its own.
    number = int(os.environ.get("LOCAL_RANK", "0")) if wanted == "cuda" else None
    return torch.device(wanted) if number is None else torch.device(wanted, number)


def choose_compile(wanted: bool | str, device: torch.device) -> bool:
    """Return whether to compile the networks; ``auto`` does on a GPU for which there is Triton.

    Elsewhere a compiler for C++ would have to be there. Several processes never do, as their batch norms
    communicate in every layer.
    """
    if wanted == "auto":
        wanted = device.type == "cuda" and find_spec("triton") is not None
    return bool(wanted) and world_size() == 1


def choose_precision(wanted: str, device: torch.device) -> str:
    """Return the precision of that name; ``auto`` takes bf16 where the device multiplies it in hardware.

    Where it does not, PyTorch emulates it: on a processor without AVX-512 a step takes 60 times as long.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return "bf16" if any(able.get(name) for name in ("avx512_bf16", "amx_bf16")) else "fp32"


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """Return the context in which networks compute in ``config.precision``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16")


def compiled(
    config: TrainConfig, device: torch.device, *functions: Callable[..., Tensor]
) -> list[Callable[..., Tensor]]:
    """Return the functions compiled where ``config.compile`` says so, and as they are otherwise."""
    if not choose_compile(config.compile, device):
        return list(functions)
    return [torch.compile(function) for function in functions]


def environment(device: torch.device) -> dict[str, str]:
    """Return when and on what a training ended, in words: ``ended``, ``machine``, ``software``."""
    machine = f"{_processor()}, {os.cpu_count()} cores"
    if device.type == "cuda":
        machine = f"{torch.cuda.get_device_name(device)} x {world_size()}; {machine}"
    libraries = [f"{name} {version(name)}" for name in ("torch", "numpy")]
    software = [f"microgan {__version__}", f"Python {platform.python_version()}", *libraries]
    return {
        "ended": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "machine": machine,
        "software": ", ".join([*software, f"{platform.system()} {platform.release()}"]),
    }


def _processor() -> str:
    """Name of the processor; where Linux does not say it, that of its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next((name for name in names if name), platform.processor() or platform.machine())


@contextmanager
def numerics(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Same seed, same bits on a CPU: deterministic kernels, fixed threads; put back afterwards."""
    threads, was_deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    deterministic: Any = torch.utils.deterministic  # the type checker finds no attribute of it
    fills = deterministic.fill_uninitialized_memory
    torch.set_num_threads(config.threads or threads)
    torch.use_deterministic_algorithms(device.type == "cpu")
    deterministic.fill_uninitialized_memory = False  # an eighth of a step, for what nobody reads
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(was_deterministic)
        deterministic.fill_uninitialized_memory = fills
        torch.set_flush_denormal(False)
