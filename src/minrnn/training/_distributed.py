"""One process or several, started by torchrun: the few things that the training loop asks of its group."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from minrnn.errors import UserError

T = TypeVar("T")
PATIENCE = timedelta(hours=2)  # the others wait while the first process evaluates


@dataclass(frozen=True)
class Group:
    """This process among `size` processes. Every method is a collective: all processes call it, in the same order."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """True in the process that writes the run folder and speaks to the person."""
        return self.rank == 0

    def mean(self, value: Tensor) -> float:
        """The mean of a scalar over all processes."""
        if self.size > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
            value /= self.size
        return value.item()

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any process raised its flag."""
        return flag if self.size == 1 else self.mean(torch.tensor(float(flag), device=device)) > 0

    def lead(self, work: Callable[[], T]) -> T:
        """What `work` returns in the first process, in every process; a UserError of it is raised in every process."""
        if self.size == 1:
            return work()
        box: list[Any] = [None, None]
        if self.first:
            try:
                box[0] = work()
            except UserError as error:
                box[1] = str(error)
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise UserError(box[1])
        result: T = box[0]
        return result

    def check(self, batch: int, accumulate: int) -> None:
        if batch % (self.size * accumulate):
            raise UserError(
                f"--batch {batch} cannot be split evenly over {self.size} processes of {accumulate} pieces each; "
                f"use a multiple of {self.size * accumulate}"
            )


@contextmanager
def process_group() -> Iterator[Group]:
    """Join the group that torchrun announces in the environment; without one, a group of this process alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        yield Group(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Group()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield Group(dist.get_rank(), size, local_rank)
    finally:
        dist.destroy_process_group()
