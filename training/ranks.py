"""Several processes that learn as one: `torchrun --nproc-per-node 2 -m training run …`.

Rank 0 does all that a process does alone: it reads the data, judges, writes checkpoints, exports.
The others know nothing of that. They wait for orders, read their share of a step's pairs, and give
back its gradient; the weights come from rank 0 with every step, so nothing of theirs has to be kept
for a run that goes on, on as many ranks as it likes. Whichever process dies, all end.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from worker.errors import PrismrankError

LEADER: Final = 0
WAITING: Final = timedelta(days=30)  # between two trainings there may be a loop's whole pause
LOST: Final = 2  # status of a rank that lost the others
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
TOLD: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")  # by torchrun

MEETING: Final = ("MASTER_ADDR", "MASTER_PORT")


class RankLost(PrismrankError, ConnectionError):
    """Another process is gone. All end; what was made stays, for the same command to go on from."""


def together(command: Callable[[], int], helper: Callable[[], None]) -> int:
    """Run `command` at rank 0 and `helper` at all others, until the command ends; the status.

    Each rank has the GPU of its local number, where there are any. Where the environment does not
    say which rank this is, nothing is begun.
    """
    told = {name: os.environ.get(name, "nothing") for name in TOLD}
    addressed = all(os.environ.get(name) for name in MEETING)
    if not (addressed and all(value.isdecimal() for value in told.values())):
        got = ", ".join(f"{name} {os.environ.get(name, 'nothing')}" for name in (*TOLD, *MEETING))
        expected = "several ranks: expected what torchrun tells each"
        print(f"error: {expected}, got {got}; nothing was begun", file=sys.stderr)
        return LOST
    rank, count, local, _ = map(int, told.values())
    backend = _backend(local)
    dist.init_process_group(backend, rank=rank, world_size=count, timeout=WAITING)
    logging.getLogger("transformers.training_args").setLevel(logging.ERROR)  # it asks for its DDP
    for name in TOLD:  # transformers would share out whole steps: it must take itself for alone
        del os.environ[name]
    status = 0
    try:
        if rank == LEADER:
            status = _asked(command)
            order(None)
        else:
            helper()
    except RankLost as error:
        print(f"error: rank {rank}: {error}", file=sys.stderr, flush=True)
        status = LOST
    except BaseException:  # the others may stand in a sum that this rank will not come to
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(LOST)
    dist.destroy_process_group()
    return status


def _asked(command: Callable[[], int]) -> int:
    """Its status; that of argparse where it was asked wrongly."""
    try:
        return command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else LOST


def count() -> int:
    """How many processes learn together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """Which of them this is."""
    return dist.get_rank() if dist.is_initialized() else LEADER


def order(what: Any) -> None:
    """From rank 0: tell all others what to do; None to end."""
    with _lost():
        dist.broadcast_object_list([what], LEADER)


def ordered() -> Any:
    """What rank 0 tells; waits for it."""
    told: list[Any] = [None]
    with _lost():
        dist.broadcast_object_list(told, LEADER)
    return told[0]


def sum_everywhere(values: Tensor) -> None:
    """The sum over ranks, in place, at each of them."""
    with _lost():
        dist.all_reduce(values)


def sum_at_leader(values: Tensor) -> None:
    """The sum over ranks, in place, at rank 0; elsewhere the values are spoiled."""
    with _lost():
        dist.reduce(values, LEADER)


def from_leader(values: Tensor) -> None:
    """Rank 0's values, in place."""
    with _lost():
        dist.broadcast(values, LEADER)


def _backend(local: int) -> str:
    """How ranks speak to each other. Before CUDA begins, so that each sees its own GPU alone."""
    seen = os.environ.get(VISIBLE, str(local))
    if "," in seen:
        os.environ[VISIBLE] = seen.split(",")[local]
    else:
        os.environ[VISIBLE] = seen
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise RankLost(
            f"another rank is gone ({reason}); all end, and the same command goes on from the last "
            "checkpoint"
        ) from error
