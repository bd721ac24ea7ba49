"""Several processes that train together: the numbers of one, an end with a message, and a way to go on.

This file is also what torchrun starts: `python -m torch.distributed.run ... tests/test_ranks.py FOLDER`.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import torch.nn as nn
from filelock import FileLock
from PIL import Image

from course_utils.data import make_loader
from course_utils.full_size import ranks as ranks_module
from course_utils.full_size.experiment import own_copy
from course_utils.full_size.ranks import ProcessLost, Ranks, Together, explained, from_first, joined_ranks, shard
from course_utils.models import freeze
from course_utils.training import accuracy, fit, predict

CPU = torch.device("cpu")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def alone(rank=0, count=1):
    return Ranks(rank, count, CPU)


def examples(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 8, 8, generator=generator), torch.randint(0, 3, (count,), generator=generator)


def train(ranks: Ranks, epochs: int, checkpoint: Path | None = None) -> dict:
    """A small network with BatchNorm in eval, trained by plain SGD; everything that came of it, as plain numbers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    freeze(model, "1")
    loaders = [
        make_loader(*examples(26, 1), batch_size=8, shuffle=True, drop_last=True),
        make_loader(*examples(13, 2), batch_size=6),  # its last batch is one example, for two processes
    ]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    whole = model
    if ranks.count > 1:
        loaders, whole = [shard(loader, ranks) for loader in loaders], Together(model, ranks)
    history = fit(
        whole, *loaders, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, device=CPU, epochs=epochs,
        metrics={"accuracy": accuracy}, progress=False, checkpoint=checkpoint, resume=checkpoint is not None,
    )  # fmt: skip
    outputs, targets = predict(whole, loaders[1], device=CPU)
    record = asdict(history)
    record.pop("seconds")
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return {**record, "weights": weights.tolist(), "outputs": outputs.tolist(), "targets": targets.tolist()}


def main(folder: Path) -> None:
    """What each of two processes does; its results go into a file of its own."""
    torch.set_num_threads(1)
    with joined_ranks() as ranks:
        results = {"whole": train(ranks, epochs=4)}
        checkpoint = folder / f"checkpoint{ranks.rank}.pt"
        train(ranks, epochs=2, checkpoint=checkpoint)
        if not ranks.first:
            checkpoint.unlink()  # only the first one's counts
            (folder / "elsewhere").mkdir()
        checkpoint = own_copy(folder / "checkpoint0.pt", folder / "elsewhere", ranks)
        results["resumed"] = train(ranks, epochs=4, checkpoint=checkpoint)
    (folder / f"rank{ranks.rank}.json").write_text(json.dumps(results))


def numbers(result, key):
    values = [list(row.values()) for row in result["epochs"]] if key == "epochs" else result[key]
    return torch.tensor(values, dtype=torch.float64)


def test_two_processes_give_the_numbers_of_one_and_go_on_where_they_stopped(tmp_path):
    done = subprocess.run([*TORCHRUN, __file__, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr
    one = train(alone(), epochs=4)
    both = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert len(one["epochs"]) == 4 and len(one["outputs"]) == 13
    for rank in both:
        for key in one:  # the losses of every step, all averages, the weights, and the outputs in their order
            torch.testing.assert_close(numbers(rank["whole"], key), numbers(one, key), rtol=1e-4, atol=1e-5)
        assert rank["resumed"] == rank["whole"]
    assert both[0] == both[1]


# --- without other processes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_processes_share_every_batch_and_the_order_of_one(count):
    loader = make_loader(*examples(14, 0), batch_size=6, shuffle=True, seed=3)
    whole = list(make_loader(*examples(14, 0), batch_size=6, shuffle=True, seed=3))
    sharded = [shard(make_loader(*examples(14, 0), batch_size=6, shuffle=True, seed=3), alone(r, count))
               for r in range(count)]  # fmt: skip
    assert len(sharded[0]) == len(loader) == 3
    for (inputs, targets), *parts in zip(whole, *sharded, strict=True):
        rows = torch.stack([own for (own, _), _ in parts], dim=1).flatten(0, 1)[: len(targets)]
        assert torch.equal(rows, inputs)
        assert all(torch.equal(all_targets, targets) for _, all_targets in parts)
        assert len({len(own) for (own, _), _ in parts}) == 1  # alike, as a gathering needs them


def test_the_gradient_of_the_whole_batch_comes_back_to_its_rows(monkeypatch):
    others = torch.arange(6.0).reshape(3, 2)

    def all_gather(parts, own):
        parts[0].copy_(others)
        parts[1].copy_(own)

    monkeypatch.setattr(ranks_module.dist, "all_gather", all_gather)
    own = torch.ones(3, 2, requires_grad=True)
    whole = ranks_module._Gathered.apply(own, alone(1, 2))
    assert whole[1::2].eq(1).all() and torch.equal(whole[::2], others)
    weights = torch.arange(12.0).reshape(6, 2)
    (whole * weights).sum().backward()
    assert torch.equal(own.grad, 2 * weights[1::2])  # twice: DistributedDataParallel takes the mean over two


def test_without_torchrun_there_is_one_process(monkeypatch):
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined_ranks() as ranks:
        assert ranks.first and ranks.count == 1
        assert from_first("mine", ranks) == "mine"


def test_more_processes_than_gpus_is_an_error(monkeypatch):
    for name, value in {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks_module, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="4 processes here, and there are 2 GPUs"), joined_ranks():
        pass


def test_an_error_of_the_talk_is_told_from_others():
    with pytest.raises(ProcessLost, match="Another process of this run ended"), explained():
        try:
            raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc] Connection closed by peer")
        except RuntimeError as error:
            raise ValueError("The model did not accept ...") from error
    with pytest.raises(ValueError, match="^labels$"), explained():
        raise ValueError("labels")


# --- the command ------------------------------------------------------------------------------------------------------


needs_torchrun = pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs Linux or macOS here")
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}


def training_of(folder, epochs):
    """Two classes of 20 pictures each in a folder, and the command that trains on them in two processes."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(0, 128, (8, 8, 3), dtype=np.uint8) + (128 if name == "b" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "pictures" / name / f"{i}.png")
    command = [*TORCHRUN, "-m", "course_utils", "train", "--data", str(folder / "pictures"), "--epochs", str(epochs)]
    return [*command, "--batch-size", "8", "--out", str(folder / "run")]


@needs_torchrun
def test_a_complete_run_called_again_ends_well_on_every_process_and_says_so_once(tmp_path):
    command, output = training_of(tmp_path, epochs=1), dict(capture_output=True, text=True, env=ENVIRONMENT)
    first = subprocess.run(command, **output)
    assert first.returncode == 0, first.stderr
    again = subprocess.run([*command, "--resume"], **output)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(f"{tmp_path / 'run'} is complete.") == 1 and "test accuracy" in again.stdout
    assert "Traceback" not in again.stderr


@pytest.mark.slow
@needs_torchrun
def test_where_the_first_process_refuses_the_others_say_that_it_ended(tmp_path):
    command, output = training_of(tmp_path, epochs=1), dict(capture_output=True, text=True, env=ENVIRONMENT)
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):  # another process is training there
        refused = subprocess.run(command, **output)
    assert refused.returncode != 0 and "Another process is training into" in refused.stderr
    assert "Another process of this run ended" in refused.stderr


@pytest.mark.slow
@needs_torchrun
def test_a_process_that_dies_ends_the_run_with_a_message_and_it_can_go_on(tmp_path):
    command, run_dir = training_of(tmp_path, epochs=400), tmp_path / "run"
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=said, stderr=said)
        while not (run_dir / "checkpoint.pt").exists():
            assert process.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.05)
        ranks = {child.environ().get("RANK"): child for child in psutil.Process(process.pid).children()}
        ranks["0"].terminate()  # as torchrun does at once, so that it may come before the news of the other's end
        time.sleep(0.2)
        ranks["1"].kill()
        assert process.wait(timeout=120) != 0
    text = (tmp_path / "said").read_text()
    assert "Signal 9 (SIGKILL) received" in text or "exitcode  : -9" in text  # torchrun's own words, by process
    assert f"torchrun --nproc-per-node 2 -m course_utils train --out {run_dir} --resume" in text
    assert not (run_dir / "model.pt").exists()
    settings = json.loads((run_dir / "settings.json").read_text())
    assert settings["settings"]["processes"] == 2
    alone_again = [sys.executable, "-m", "course_utils", "train", "--out", str(run_dir), "--resume"]
    refused = subprocess.run(alone_again, capture_output=True, text=True)
    assert refused.returncode == 1 and "began with torchrun's processes 2" in refused.stderr


if __name__ == "__main__":
    main(Path(sys.argv[1]))
