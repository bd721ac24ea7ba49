"""The loader of the full size: torchvision's own pixels, kept as uint8, prepared a batch at a time, and resumable."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn as nn
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize, ToTensor

from course_utils.data import random_flip_and_crop
from course_utils.full_size import pipeline
from course_utils.full_size.pipeline import fast_precision, make_fast, make_full_size_loader, to_inputs
from course_utils.models import build_classifier
from course_utils.pocket import InputSpec
from course_utils.training import accuracy, fit

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("COURSE_REAL", ROOT.parent / "shared" / "real"))
IMAGENET = InputSpec((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224)


def photographs() -> np.ndarray:
    """The two photographs of scikit-learn, each in its two halves: (4, 427, 320, 3)."""
    return np.stack([photo[:, side] for photo in load_sample_images().images for side in (slice(320), slice(320, 640))])


def scans() -> np.ndarray:
    """Handwritten digits as scikit-learn has them, on the scale of pixels: (32, 8, 8, 3)."""
    grey = (load_digits().images[:32] * 255 / 16).round().astype(np.uint8)
    return grey[..., None].repeat(3, axis=-1)


def cifar10() -> np.ndarray:
    if not (REAL / "cifar10_subset.npz").is_file():
        pytest.skip("needs CIFAR-10 images in cifar10_subset.npz, in the folder that COURSE_REAL names")
    with np.load(REAL / "cifar10_subset.npz") as file:
        return file["x_test"][:64]


def as_tensor(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def torchvision_pipeline(pictures: np.ndarray, spec: InputSpec, width_first: bool = True) -> torch.Tensor:
    """One PIL image at a time, as the article and torchvision's examples do it.

    width_first: in two calls, in the order of torchvision's tensors, and of Pillow up to version 12. Pillow 13 takes
    the height first where that is less work; between the two it cuts at 0 and 255, so that a bicubic edge differs.
    """
    sizes = [(pictures.shape[1], spec.size)] * width_first + [(spec.size, spec.size)]
    resize = [Resize(size, interpolation=InterpolationMode(spec.interpolation)) for size in sizes]
    transform = Compose([*resize, ToTensor(), Normalize(spec.mean, spec.std)])
    return torch.stack([transform(Image.fromarray(picture)) for picture in pictures])


def grey_levels(a: torch.Tensor, b: torch.Tensor, spec: InputSpec) -> float:
    """The largest difference between two sets of inputs, in steps of 1/255 of the image."""
    return ((a - b).abs() * torch.tensor(spec.std)[:, None, None] * 255).max().item()


def examples(count: int = 40, size: int = 16, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return images, torch.arange(count) % classes


def loader(images=None, labels=None, **options):
    given = examples()
    defaults = dict(batch_size=16, image_size=24, spec=IMAGENET, device="cpu", train=True, seed=0)
    return make_full_size_loader(
        given[0] if images is None else images, given[1] if labels is None else labels, **{**defaults, **options}
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [24, 64, 224])
@pytest.mark.parametrize("pictures", [cifar10, photographs, scans])
def test_the_pixels_are_those_of_torchvision_s_own_pipeline(pictures, size, interpolation):
    pictures, spec = pictures(), replace(IMAGENET, size=size, interpolation=interpolation)
    expected = torchvision_pipeline(pictures, spec)
    steps = grey_levels(to_inputs(as_tensor(pictures), spec), expected, spec)
    assert steps <= (1.001 if interpolation == "bilinear" else 2.001), "two in fewer than one of 10,000 bicubic values"


@pytest.mark.parametrize("size", [64, 224])
def test_the_order_that_pillow_chooses_changes_fewer_than_one_value_in_a_thousand(size):
    pictures, spec = photographs(), replace(IMAGENET, size=size, interpolation="bicubic")
    difference = to_inputs(as_tensor(pictures), spec) - torchvision_pipeline(pictures, spec, width_first=False)
    steps = difference.abs() * torch.tensor(spec.std)[:, None, None] * 255
    assert (steps > 1.001).float().mean() < 1e-3


def test_a_batch_is_what_a_network_takes_fastest():
    images, labels = examples()
    batches = list(loader(train=False))
    assert [inputs.shape for inputs, _ in batches] == [(16, 3, 24, 24)] * 2 + [(8, 3, 24, 24)]
    for inputs, _ in batches:
        assert inputs.dtype == torch.float32 and inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.cat([targets for _, targets in batches]), labels)
    assert torch.equal(torch.cat([inputs for inputs, _ in batches]), to_inputs(images, replace(IMAGENET, size=24)))
    assert len(loader(drop_last=True)) == 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_images_lie_in_memory_once_and_stay_as_they_are(layout):
    images, labels = examples()
    images = images.contiguous(memory_format=layout)
    before = images.clone()
    dealt = loader(images, labels, batch_size=40)
    list(dealt)
    assert dealt.dataset.tensors[0].data_ptr() == images.data_ptr(), "no copy of the whole"
    assert torch.equal(images, before)


def test_training_mirrors_and_moves_each_image_before_it_is_enlarged(monkeypatch):
    images, _ = examples()
    changed = []

    def watched(batch, generator, padding):
        assert padding == 2, "an eighth of 16 pixels"
        changed.append(random_flip_and_crop(batch, generator, padding))
        return changed[-1]

    monkeypatch.setattr(pipeline, "random_flip_and_crop", watched)
    inputs, chosen = next(iter(loader(images, torch.arange(40), batch_size=40)))
    assert sorted(chosen.tolist()) == list(range(40)) != chosen.tolist()
    assert torch.equal(inputs, to_inputs(changed[0], replace(IMAGENET, size=24)))
    same = sum(torch.equal(new, old) for new, old in zip(changed[0], images[chosen], strict=True))
    assert same < 10, "one in fifty stays by chance"


def test_the_seed_decides_and_nothing_else():
    def deal(seed):
        dealt = loader(seed=seed)
        return torch.cat([inputs for _ in range(2) for inputs, _ in dealt])

    first = deal(1)
    torch.manual_seed(5)
    assert torch.equal(first, deal(1)) and not torch.equal(first, deal(2))
    assert not torch.equal(first[:40].sort(0)[0], first[40:].sort(0)[0]), "another draw in every epoch"
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    deal(1)
    assert torch.equal(torch.rand(3), expected), "the global generator is left alone"


def run(epochs: int, checkpoint: Path, resume: bool = False):
    torch.manual_seed(0)
    model = build_classifier("tiny_resnet", 3, weights="DEFAULT")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    options = dict(loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, device="cpu", metrics={"accuracy": accuracy})
    history = fit(
        model,
        loader(spec=model.input_spec, image_size=32),
        loader(spec=model.input_spec, image_size=32, train=False),
        epochs=epochs,
        checkpoint=checkpoint,
        resume=resume,
        progress=False,
        **options,
    )
    return history, model


def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(tmp_path):
    expected, model = run(3, tmp_path / "whole.pt")
    run(1, tmp_path / "parts.pt")
    history, resumed = run(3, tmp_path / "parts.pt", resume=True)
    assert history == expected
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_images_that_a_gpu_has_no_room_for_stay_in_main_memory(monkeypatch):
    images, _ = examples()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * images.nbytes, 10**12))
    assert pipeline._fits(images, torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * images.nbytes - 2, 10**12))
    assert not pipeline._fits(images, torch.device("cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("fits", [True, False])
def test_on_a_gpu_the_batches_are_prepared_there(fits, monkeypatch):
    monkeypatch.setattr(pipeline, "_fits", lambda images, device: fits)
    on_gpu, on_cpu = (next(iter(loader(device=device, train=False)))[0] for device in ("cuda", "cpu"))
    assert on_gpu.device.type == "cuda" and on_gpu.is_contiguous(memory_format=torch.channels_last)
    assert grey_levels(on_gpu.cpu(), on_cpu, IMAGENET) <= 1.001


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(images=torch.rand(40, 3, 16, 16)), "uint8 tensor.*not torch.float32"),
        (dict(images=np.zeros((40, 3, 16, 16), np.uint8)), "not ndarray"),
        (dict(images=torch.zeros(40, 16, 16, 3, dtype=torch.uint8)), r"not \(40, 16, 16, 3\).*permute"),
        (dict(images=torch.zeros(40, 1, 16, 16, dtype=torch.uint8)), r"\(40, 1, 16, 16\).*expand"),
        (dict(labels=torch.arange(39)), "40 images and 39 labels"),
        (dict(labels=torch.arange(40).float()), "int64"),
        (dict(image_size=0), "image_size must be a whole number from 1, not 0"),
        (dict(image_size=(224, 224)), r"image_size .* not \(224, 224\)"),
        (dict(batch_size=0), "batch_size must be a whole number from 1, not 0"),
        (dict(batch_size=64, drop_last=True), "40 examples make no full batch of 64"),
        (dict(device="cuda:99"), "no device 'cuda:99'"),
    ],
)
def test_what_cannot_work_is_refused_before_the_training(options, message):
    with pytest.raises(ValueError, match=message):
        loader(**options)


# --- precision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_hardware", "name", "expected"),
    [(True, "resnet18", True), (True, "mobilenet_v3_small", False), (False, "resnet18", False)],
)
def test_bfloat16_is_taken_on_a_cpu_that_gains_by_it(in_hardware, name, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: in_hardware, raising=False)
    context = fast_precision(build_classifier(name, 4), "cpu")
    assert isinstance(context, torch.autocast) == expected
    if expected:
        assert context.fast_dtype == torch.bfloat16 and context.device == "cpu"


def test_a_pytorch_that_cannot_tell_computes_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not isinstance(fast_precision(build_classifier("resnet18", 4), "cpu"), torch.autocast)


@pytest.fixture
def bfloat16(monkeypatch):
    """PyTorch computes in bfloat16 on every CPU, if slowly."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)


def test_a_fast_model_gives_float32_near_its_own_and_keeps_its_weights(bfloat16):
    torch.manual_seed(0)
    model = build_classifier("tiny_resnet", 3, weights="DEFAULT").eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    inputs = to_inputs(examples()[0], model.input_spec)
    expected = model(inputs)
    assert make_fast(model, "cpu") is model
    outputs = model(inputs)
    assert outputs.dtype == torch.float32
    assert 0 < (outputs - expected).norm() < 0.03 * expected.norm()
    assert model.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_a_fast_model_learns_as_its_own_does(bfloat16):
    losses = []
    for fast in (False, True):
        torch.manual_seed(0)
        model = build_classifier("tiny_resnet", 3, weights="DEFAULT")
        if fast:
            make_fast(model, "cpu")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        options = dict(loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, device="cpu", progress=False)
        losses.append(fit(model, loader(spec=model.input_spec, image_size=32), None, epochs=2, **options).step_loss)
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05)


def test_without_bfloat16_a_fast_model_computes_what_it_did(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    model = make_fast(build_classifier("tiny_resnet", 3).eval(), "cpu")
    assert "forward" not in vars(model)
