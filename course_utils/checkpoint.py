"""Checkpoints of a training: everything that is needed to go on as if nothing had happened, in one file."""

import io
import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from course_utils.files import write_atomically
from course_utils.models import freeze, frozen_names, unfreeze


def save_checkpoint(path, model, optimizer, scheduler, loaders, loss_fn, rates, history) -> None:
    """Write everything that `restore` needs, under another name first and then in one move."""
    state = {
        "model": model.state_dict(),
        "loss": loss_fn.state_dict() if isinstance(loss_fn, torch.nn.Module) else None,  # it may learn too
        "frozen": frozen_names(model),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict() if scheduler is not None else None,
        "rates": rates,  # of all steps, as they were planned: a schedule that is a function is not in its state
        "generators": [generator.get_state() for generator in _generators(loaders)],
        "random_states": _random_states(),
        "history": history,
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def read_checkpoint(path) -> dict:
    """What `save_checkpoint` wrote. Raises ValueError where the file is damaged, or something else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not {"model", "optimizer", "scheduler", "history"} <= set(state):
            raise ValueError("it is no checkpoint of fit")
    except Exception as error:
        raise ValueError(f"{Path(path).name} is damaged, or no checkpoint of fit. ({_said(error)})") from error
    return state


def restore(state: dict, path, model, optimizer, scheduler, loaders, loss_fn) -> dict:
    """Put everything back as `save_checkpoint` found it, what was frozen too; returns the record so far.

    Raises ValueError where it belongs to another model, optimiser or set of loaders.
    """
    try:
        model.load_state_dict(state["model"])
        if isinstance(loss_fn, torch.nn.Module):
            loss_fn.load_state_dict(state["loss"] or {})
        optimizer.load_state_dict(state["optimizer"])
        if scheduler is not None:
            scheduler.load_state_dict(state["scheduler"])
        for generator, generator_state in zip(_generators(loaders), state["generators"], strict=True):
            generator.set_state(generator_state)
    except Exception as error:
        raise ValueError(
            f"{Path(path).name} does not fit: it was written with another model, optimiser, scheduler or loader. "
            f"({_said(error)})"
        ) from error
    unfreeze(model)
    freeze(model, state["frozen"]["parameters"] + state["frozen"]["batch_norms"])
    _restore_random_states(state["random_states"])
    return state["history"]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _generators(loaders: Iterable) -> list[torch.Generator]:
    """The generators that the loaders and their samplers draw from, each once."""
    found, parts = [], list(loaders)
    while parts:
        part = parts.pop(0)
        generator = getattr(part, "generator", None)
        if isinstance(generator, torch.Generator) and not any(generator is known for known in found):
            found.append(generator)
        parts += [inner for name in ("sampler", "batch_sampler") if (inner := getattr(part, name, None)) is not None]
    return found


def _random_states() -> dict:
    """The states of all global random generators, as plain values and tensors, to be saved in a checkpoint."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_states(states: dict) -> None:
    """Put back what `_random_states` returned; GPU states only where there are as many GPUs as then."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
