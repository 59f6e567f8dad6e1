"""Where to compute and in which type."""

from __future__ import annotations

from typing import Literal

import torch

from minrnn.errors import UserError

from ._config import TrainConfig


def resolve_device(config: TrainConfig, local_rank: int = 0) -> torch.device:
    """The device that `config.device` stands for on this machine."""
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise UserError(
            "--device cuda: torch finds no CUDA device here; use --device cpu, or install a CUDA build of torch"
        )
    if config.device == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda", local_rank)


def resolve_precision(
    precision: Literal["auto", "float32", "bfloat16"], device: torch.device
) -> Literal["float32", "bfloat16"]:
    """ "float32" or "bfloat16": what `precision` stands for on this machine."""
    if precision != "auto":
        return precision
    return "bfloat16" if _multiplies_bfloat16(device) else "float32"


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch answers this in private functions only; where one is missing, float32 is the safe choice.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
