"""Several processes that train one model together, started by torchrun: each computes its rows of every batch.

`fit` knows nothing of it. A `Together` model takes the rows of its own process and gives the outputs of the whole
batch, in order, so that loss, metrics and history are those of one process, on every one of them: an uneven last batch
is counted right, and a loss that is no number stops all of them at the same step.

What differs from one process with the same batch: BatchNorm in training mode takes its statistics from a process's own
rows (on GPUs from all rows, by SyncBatchNorm, which does not exist for the CPU), and the processes draw the same random
numbers, so that row i of each is moved, mirrored and dropped out alike.
"""

import contextlib
import datetime
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn as nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from course_utils.device import pick_device


class ProcessLost(ConnectionError):
    """Another process of the run ended, or cannot be reached."""


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many, and what it computes on."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Is it the one that writes and prints?"""
        return self.rank == 0


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the other processes that torchrun started; alone, without torchrun, there is nothing to join.

    Every process takes a GPU of its own (NCCL), or the CPU (gloo). Raises ValueError where there are fewer GPUs than
    processes on a machine, ProcessLost where the others cannot be reached.
    Source of the variables: PyTorch docs, "torchrun".
    """
    device, count = pick_device(), int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        yield Ranks(0, 1, device)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ValueError(
                f"torchrun started {os.environ['LOCAL_WORLD_SIZE']} processes here, and there are "
                f"{torch.cuda.device_count()} GPUs: --nproc-per-node {torch.cuda.device_count()} is the most, or "
                "COURSE_DEVICE=cpu."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")  # MPS is one GPU, and has no way to talk to others
        if rank == 0:  # where another ends, torchrun sends this at once; gloo sees the end too, and that is then said
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with explained():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=datetime.timedelta(minutes=10))
    try:
        yield Ranks(rank, count, device)
        with explained():
            dist.barrier()  # nobody hangs up while another still listens: with PyTorch 2.6 one would wait for ever
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raise ProcessLost where what fails inside is the talk between processes, whoever passed the error on."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        first = error.__cause__ or error  # `fit` explains errors of a batch, as its own kind
        said = str(first)
        if isinstance(first, dist.DistError) or any(word in said for word in ("gloo", "NCCL", "Connection closed")):
            raise ProcessLost(
                f"Another process of this run ended, or cannot be reached. ({said.splitlines()[0][:200]})"
            ) from error
        raise


def from_first(value, ranks: Ranks):
    """What the first process has, on every one; anything that can be pickled."""
    if ranks.count == 1:
        return value
    box = [value]
    with explained():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def shard(loader: DataLoader, ranks: Ranks) -> DataLoader:
    """A loader of `data.make_loader`, dealing out ((own inputs, all targets), all targets): what `Together` takes.

    Process r gets rows r, r + count, ... of each batch, and where it is one short, the first row again, to be left out
    of the outputs. Order and random numbers come from the loader's own generator, the same on every process.
    """

    def finish(batch):
        inputs, targets = loader.collate_fn(batch)
        return (inputs, targets), targets

    rows = _OwnRows(*loader.dataset.tensors, ranks)
    return DataLoader(rows, sampler=loader.sampler, batch_size=None, collate_fn=finish, generator=loader.generator)


class _OwnRows(Dataset):
    """The images of a process's rows, and all labels, of a batch of indices."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, ranks: Ranks):
        self.images, self.labels, self.ranks = images, labels, ranks

    def __getitem__(self, batch: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        own = batch[self.ranks.rank :: self.ranks.count]
        if len(own) < -(-len(batch) // self.ranks.count):
            own = [*own, batch[0]]
        return self.images[own], self.labels[batch]

    def __len__(self) -> int:
        return len(self.labels)


class Together(nn.Module):
    """A model whose gradients are averaged over the processes, and whose outputs are those of the whole batch.

    The model is built alike on every process. `synchronise` must be called after layers were frozen or thawed:
    DistributedDataParallel waits for the gradients of those that trained when it was made.
    """

    def __init__(self, model: nn.Module, ranks: Ranks):
        super().__init__()
        self.ranks = ranks
        self.parallel = DistributedDataParallel(model)

    @property
    def model(self) -> nn.Module:
        return self.parallel.module

    def synchronise(self) -> None:
        """Start anew with what trains now, from the weights of the first process."""
        self.parallel = DistributedDataParallel(self.model)

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Own rows of the inputs, and the targets of all, of which only the number counts -> outputs of all, (B, K)."""
        outputs = self.parallel(inputs)
        return _Gathered.apply(outputs.float(), self.ranks)[: len(targets)]


class _Gathered(torch.autograd.Function):
    """The rows of all processes, in the order in which `shard` dealt them out."""

    @staticmethod
    def forward(ctx, own: torch.Tensor, ranks: Ranks) -> torch.Tensor:
        ctx.ranks = ranks
        parts = [torch.empty_like(own) for _ in range(ranks.count)]
        with explained():
            dist.all_gather(parts, own.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Own rows of the gradient. Their sum over the processes is wanted; DistributedDataParallel takes the mean."""
        return gradient[ctx.ranks.rank :: ctx.ranks.count] * ctx.ranks.count, None
