"""Where the course computes: the choice of a device, threads, seeds, precision, memory, and the sentence about them."""

import contextlib
import getpass
import random
import re
import socket
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from course_utils.device import (
    check_device,
    device_report,
    mixed_precision,
    peak_memory,
    pick_device,
    seed_everything,
    use_cpu_threads,
)


@pytest.fixture
def machine(monkeypatch):
    """Makes this process believe in other devices: machine(gpus=2, mac=False, bfloat16=True)."""
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    monkeypatch.delenv("COURSE_THREADS", raising=False)

    def pretend(gpus=0, mac=False, bfloat16=True):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bfloat16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mac)
        gpu = SimpleNamespace(name="Example 4000", total_memory=16 * 2**30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)

    pretend()
    return pretend


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# --- which device ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "asked", "device"),
    [
        ({}, None, "cpu"),
        ({}, "", "cpu"),
        ({}, "cpu", "cpu"),
        ({"gpus": 1}, None, "cuda"),
        ({"gpus": 1}, " CUDA ", "cuda"),
        ({"gpus": 2}, "cuda:1", "cuda:1"),
        ({"gpus": 1}, "cpu", "cpu"),
        ({"mac": True}, None, "mps"),
        ({"mac": True}, "mps", "mps"),
        ({"mac": True}, "cpu", "cpu"),
        ({"gpus": 1, "mac": True}, None, "cuda"),
        ({"gpus": 1, "mac": True}, "mps", "mps"),
    ],
)
def test_the_fastest_device_is_picked_unless_another_is_asked_for(machine, monkeypatch, there, asked, device):
    machine(**there)
    if asked is not None:
        monkeypatch.setenv("COURSE_DEVICE", asked)
    assert pick_device() == torch.device(device)


@pytest.mark.parametrize(
    ("there", "asked", "offers"),
    [
        ({}, "cuda", "cpu"),
        ({}, "cuda:0", "cpu"),
        ({}, "mps", "cpu"),
        ({}, "gpu", "cpu"),
        ({"gpus": 2}, "cuda:2", "cuda, cuda:0, cuda:1, cpu"),
        ({"gpus": 1}, "mps", "cuda, cuda:0, cpu"),
        ({"mac": True}, "cuda", "mps, mps:0, cpu"),
    ],
)
def test_a_device_that_is_not_there_is_an_error_that_names_what_is(machine, monkeypatch, there, asked, offers):
    machine(**there)
    monkeypatch.setenv("COURSE_DEVICE", asked)
    with pytest.raises(ValueError, match=f"no device '{asked}' here, only {offers}\\. COURSE_DEVICE asks.*unset"):
        pick_device()
    with pytest.raises(ValueError, match=f"no device '{asked}' here, only {offers}\\. pick_device"):
        check_device(asked)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cuda", "cuda:1", torch.device("cuda", 1)])
def test_a_device_that_is_there_is_accepted(machine, device):
    machine(gpus=2)
    check_device(device)


def test_a_gpu_that_its_driver_cannot_use_is_not_picked(machine, monkeypatch):
    machine(gpus=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == torch.device("cpu")


# --- threads and seeds ----------------------------------------------------------------------------------------------


def test_the_course_computes_with_one_thread_unless_told_otherwise(machine, threads, monkeypatch):
    assert use_cpu_threads() == torch.get_num_threads() == 1
    monkeypatch.setenv("COURSE_THREADS", "3")
    assert use_cpu_threads() == torch.get_num_threads() == 3
    assert use_cpu_threads(2) == torch.get_num_threads() == 2


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5", "", " "])
def test_a_number_of_threads_that_is_none_is_refused(machine, threads, monkeypatch, wrong):
    torch.set_num_threads(1)
    with pytest.raises(ValueError, match="whole number from 1"):
        use_cpu_threads(wrong)
    monkeypatch.setenv("COURSE_THREADS", wrong or "none")
    with pytest.raises(ValueError, match="whole number from 1"):
        use_cpu_threads()
    assert torch.get_num_threads() == 1


def test_the_same_seed_gives_the_same_numbers_everywhere():
    def draw(seed):
        seed_everything(seed)
        return random.random(), np.random.rand(), torch.rand(1).item(), torch.randperm(9).tolist()

    first = draw(4)
    assert first == draw(4)
    assert all(one != other for one, other in zip(first, draw(5), strict=True))


# --- precision ------------------------------------------------------------------------------------------------------


def test_mixed_precision_changes_nothing_on_a_cpu():
    layer, inputs = torch.nn.Linear(8, 8), torch.randn(4, 8)
    with mixed_precision("cpu"):
        outputs = layer(inputs)
    assert outputs.dtype == torch.float32
    assert torch.equal(outputs, layer(inputs))


@pytest.mark.parametrize("bfloat16", [True, False])
def test_mixed_precision_is_bfloat16_where_the_gpu_computes_in_it(machine, bfloat16):
    machine(gpus=1, bfloat16=bfloat16)
    context = mixed_precision(torch.device("cuda"))
    if bfloat16:
        assert isinstance(context, torch.autocast)
        assert context.device == "cuda" and context.fast_dtype == torch.bfloat16
    else:
        assert isinstance(context, contextlib.nullcontext)
    assert isinstance(mixed_precision("cpu"), contextlib.nullcontext)
    assert isinstance(mixed_precision("mps"), contextlib.nullcontext)


# --- memory and the report ------------------------------------------------------------------------------------------


def test_peak_memory_rises_with_what_is_allocated_and_stays_up():
    before = peak_memory()
    used = psutil.Process().memory_info().rss
    assert 50e6 < before < psutil.virtual_memory().total
    assert before > 0.9 * used
    block = bytearray(max(0, before - used) + 200_000_000)
    block[::1024] = b"x" * len(block[::1024])  # memory counts once it is written to
    after = peak_memory("cpu")
    assert 150e6 < after - before < 400e6
    del block
    assert peak_memory() > after - 1e6  # the kernel counts pages in lots


def test_peak_memory_of_a_gpu_is_what_pytorch_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 if str(device) == "cuda:1" else 0)
    assert peak_memory("cuda:1") == 7


@pytest.mark.parametrize(
    ("there", "device", "says"),
    [
        ({"gpus": 1}, "cuda", r"on the GPU Example 4000 \(16 GiB\) in bfloat16, with PyTorch"),
        ({"gpus": 1, "bfloat16": False}, "cuda", r"on the GPU Example 4000 \(16 GiB\) in float32, with PyTorch"),
        ({"mac": True}, "mps", r"on the GPU of this Mac \(MPS\) in float32"),
        ({}, "cpu", r"on the CPU with \d+ of \d+ threads, in float32, with PyTorch"),
        ({"gpus": 1}, "cpu", "There is a GPU, but COURSE_DEVICE asks for the CPU"),
    ],
)
def test_the_report_is_a_sentence_about_the_device(machine, there, device, says):
    machine(**there)
    report = device_report(device)
    assert report.startswith("Computing on the ") and report.endswith(".") and "\n" not in report
    assert torch.__version__.split("+")[0] in report
    assert re.search(says, report), report


@pytest.mark.parametrize(
    ("cuda", "says"), [(None, "built for the CPU alone"), ("13.0", "No usable GPU was found, and the pocket size")]
)
def test_the_report_says_why_there_is_no_gpu(machine, monkeypatch, cuda, says):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    assert says in device_report("cpu")


def test_the_report_names_neither_the_machine_nor_the_user(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: pytest.fail("asked for the machine's name"))
    monkeypatch.setattr(getpass, "getuser", lambda: pytest.fail("asked for the user's name"))
    monkeypatch.setenv("USER", "somebody-xyz")
    monkeypatch.setenv("HOSTNAME", "somewhere-xyz")
    report = device_report(pick_device())
    assert "xyz" not in report and "/" not in report
