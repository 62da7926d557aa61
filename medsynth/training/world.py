"""Ranks and devices: one process or many, started by `torchrun`."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class World:
    """This process among its peers.

    Args:
        rank: Which one, from 0.
        size: How many.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def from_environment(cls) -> "World":
        """Join the processes that `torchrun` started; alone without it.

        nccl on GPUs, gloo on CPUs.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        gpu = torch.cuda.is_available()
        device = torch.device("cuda", local) if gpu else torch.device("cpu")
        if gpu:
            torch.cuda.set_device(device)
        if size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if gpu else "gloo")
        return cls(int(os.environ.get("RANK", "0")), size, device)

    @property
    def leads(self) -> bool:
        """Whether this rank writes files and talks."""
        return self.rank == 0

    def mean(self, tensor: Tensor) -> Tensor:
        """Average over ranks, in place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
            tensor /= self.size
        return tensor

    def agree(self, number: int) -> int:
        """The leading rank's number, at least 0 and below 2¹²⁶, on all ranks."""
        if self.size == 1:
            return number
        halves = torch.tensor([number >> 63, number & (2**63 - 1)], device=self.device)
        distributed.broadcast(halves, 0)
        return (int(halves[0]) << 63) | int(halves[1])

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            distributed.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1 and distributed.is_initialized():
            distributed.destroy_process_group()
