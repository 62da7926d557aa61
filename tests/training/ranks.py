"""Two processes as the ranks of one run, and whether states of trainers are the same."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medsynth.training.trainer import Trainer
from medsynth.training.world import World

RANKS = 2


def same(one: object, two: object) -> bool:
    """Whether states are equal, tensors to the last bit."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[k], two[k]) for k in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return torch.equal(one, two)
    return one == two


def states(play: Callable[[World], Trainer], folder: Path) -> list[dict[str, Any]]:
    """What each of two ranks has in the end.

    Args:
        play: A function of a module, which trains as the rank that it is given.
        folder: Empty.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=_rank, args=(play, r, port, folder)) for r in range(RANKS)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"{r}.pt", weights_only=True) for r in range(RANKS)]


def _rank(play: Callable[[World], Trainer], rank: int, port: int, folder: Path) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(RANKS),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)
    world = World.from_environment()
    torch.save(play(world).state_dict(), folder / f"{rank}.pt")
    world.close()
