"""Cached features: those of the model, never stale ones, and a probe on them that is the model's head."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
import torch.nn as nn

from course_utils.full_size import features as module
from course_utils.full_size.features import cached_features, head_for_features, make_feature_loader
from course_utils.full_size.pipeline import to_inputs
from course_utils.models import build_classifier, freeze, unfreeze
from course_utils.training import accuracy, evaluate, fit

NAMES = ["tiny_resnet", "resnet18", "mobilenet_v3_small", "squeezenet1_1"]


def pictures(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)


def network(name="tiny_resnet", seed=0):
    torch.manual_seed(seed)
    return build_classifier(name, 4)


def compute(model, images, folder, **options):
    return cached_features(
        model, images, folder=folder, **{**dict(image_size=32, device="cpu", progress=False), **options}
    )


@pytest.fixture
def extracted(monkeypatch):
    """How many images go through the network, block by block."""
    seen, predict = [], module.predict

    def counted(model, loader, device):
        seen.append(len(loader.dataset))
        return predict(model, loader, device=device)

    monkeypatch.setattr(module, "predict", counted)
    return seen


@pytest.fixture
def in_float32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_head_on_the_features_gives_what_the_model_gives(name, tmp_path, in_float32):
    model, images = network(name), pictures()
    features = compute(model, images, tmp_path, image_size=64)
    assert features.dtype == torch.float16 and features.shape[0] == 6 and features.ndim == 2
    model.eval()
    inputs = to_inputs(images, replace(model.input_spec, size=64))
    with torch.no_grad():
        expected = model(inputs)
        outputs = head_for_features(model)(features.float())
    assert outputs.shape == expected.shape == (6, 4)
    # float16 keeps 11 bits; every feature is rounded on its own
    assert (outputs - expected).abs().max() < 2e-3 * expected.abs().max()


def test_training_the_probe_trains_the_model_s_head_and_nothing_else(tmp_path, in_float32):
    model, images, labels = network(), pictures(60), torch.arange(60) % 4
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    features = compute(model, images, tmp_path)
    head = head_for_features(model)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    loader = make_feature_loader(features, labels, batch_size=16, train=True, seed=0)
    options = dict(loss_fn=nn.CrossEntropyLoss(), device="cpu", metrics={"accuracy": accuracy})
    history = fit(head, loader, None, optimizer=optimizer, epochs=40, progress=False, **options)
    assert history["train_accuracy"][-1] > 0.9 > history["train_accuracy"][0]
    changed = [name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])]
    assert changed == ["fc.weight", "fc.bias"]

    deal = make_feature_loader(features, labels, batch_size=60, train=False, seed=0)
    inputs = [(to_inputs(images, model.input_spec), labels)]
    by_head, by_model = evaluate(head, deal, **options), evaluate(model, inputs, **options)
    assert by_head == pytest.approx(by_model, rel=1e-2)


def test_it_is_the_probe_of_the_recipe_where_nothing_is_drawn(tmp_path, in_float32):
    """Same batches, same optimiser: training on features follows training with a frozen backbone, within float16."""
    images, labels = pictures(32), torch.arange(32) % 4
    options = dict(loss_fn=nn.CrossEntropyLoss(), device="cpu", epochs=5, progress=False)

    model = network()
    freeze(model, "")
    unfreeze(model, "fc")
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.5)
    slow = fit(model, [(to_inputs(images, model.input_spec), labels)], None, optimizer=optimizer, **options)

    model = network()
    features = compute(model, images, tmp_path)
    loader = make_feature_loader(features, labels, batch_size=32, train=False, seed=0)
    head = head_for_features(model)
    fast = fit(head, loader, None, optimizer=torch.optim.SGD(head.parameters(), lr=0.5), **options)
    assert fast.step_loss == pytest.approx(slow.step_loss, rel=1e-3)
    assert slow.step_loss[-1] < 0.98 * slow.step_loss[0], "which is more than the tolerance"


def test_a_second_call_reads_what_the_first_one_wrote(tmp_path, extracted):
    model, images = network(), pictures()
    first = compute(model, images, tmp_path)
    assert extracted == [6]
    assert torch.equal(compute(model, images, tmp_path), first) and extracted == [6]
    assert torch.equal(compute(network(), images.contiguous(memory_format=torch.channels_last), tmp_path), first)
    assert extracted == [6], "neither a new head nor the order in memory makes a difference"


def another_weight(model, options):
    with torch.no_grad():
        model.layer2[0].conv1.weight[0, 0, 0, 0] += 1e-6


def another_statistic(model, options):
    model.bn1.running_var[0] += 1e-6


def another_layer(model, options):
    model.relu = nn.LeakyReLU(0.3)


def another_setting_of_a_layer(model, options):
    model.bn1.eps = 1e-2


def another_normalisation(model, options):
    model.input_spec = replace(model.input_spec, mean=(0.1, 0.1, 0.1))


def another_interpolation(model, options):
    model.input_spec = replace(model.input_spec, interpolation="bicubic")


def another_size(model, options):
    options["image_size"] = 40


def another_picture(model, options):
    options["images"][5, 2, 31, 31] ^= 1


@pytest.mark.parametrize(
    "change",
    [
        another_weight,
        another_statistic,
        another_layer,
        another_setting_of_a_layer,
        another_normalisation,
        another_interpolation,
        another_size,
        another_picture,
    ],
)
def test_what_the_features_depend_on_is_part_of_their_key(change, tmp_path, extracted):
    model, options = network(), dict(images=pictures(), image_size=32)
    compute(model, folder=tmp_path, **options)
    change(model, options)
    fresh = compute(model, folder=tmp_path / "new", **options)
    assert torch.equal(compute(model, folder=tmp_path, **options), fresh)
    assert extracted == [6, 6, 6]


@pytest.mark.parametrize("version", ["torch", "torchvision"])
def test_another_version_of_pytorch_computes_anew(version, tmp_path, extracted, monkeypatch):
    model, images = network(), pictures()
    compute(model, images, tmp_path)
    monkeypatch.setattr(getattr(module, version), "__version__", "99.0")
    compute(model, images, tmp_path)
    assert extracted == [6, 6]


def test_another_precision_computes_anew(tmp_path, extracted, monkeypatch):
    model, images = network(), pictures()
    for bfloat16 in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=bfloat16: answer, raising=False)
        compute(model, images, tmp_path)
    assert extracted == [6, 6]


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


def one_bit(path):
    content = bytearray(path.read_bytes())
    stored = torch.load(path, weights_only=True)["features"].numpy().tobytes()
    content[content.index(stored) + 7] ^= 1
    path.write_bytes(content)


def other_content(path):
    torch.save({"key": path.stem, "features": torch.zeros(6, 128).half()}, path)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [cut_short, one_bit, other_content, empty])
def test_a_damaged_file_is_made_anew(spoil, tmp_path, extracted):
    model, images = network(), pictures()
    first = compute(model, images, tmp_path)
    (path,) = tmp_path.glob("*.pt*")
    intact = path.read_bytes()
    spoil(path)
    assert torch.equal(compute(model, images, tmp_path), first) and extracted == [6, 6]
    assert list(tmp_path.glob("*.pt*")) == [path] and path.read_bytes() == intact


def test_a_file_under_another_s_name_is_not_used(tmp_path, extracted):
    model = network()
    compute(model, pictures(), tmp_path)
    (first,) = tmp_path.glob("*.pt*")
    expected = compute(model, pictures(seed=1), tmp_path)
    (second,) = set(tmp_path.glob("*.pt*")) - {first}
    first.replace(second)
    assert torch.equal(compute(model, pictures(seed=1), tmp_path), expected) and extracted == [6, 6, 6]


def test_runs_that_write_the_same_features_at_once_do_not_stop_each_other(tmp_path):
    """Two probes at two rates, started side by side, compute the same files."""
    features = torch.zeros(256, 64, dtype=torch.float16)
    paths = [tmp_path / f"{i}.pt" for i in range(20) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: module._write(path, path.stem, features), paths))  # raises what one of them raises
    assert all(torch.equal(module._read(path, path.stem), features) for path in paths)


def test_an_interrupted_call_goes_on_where_it_was(tmp_path, extracted, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4)
    model, images = network(), pictures(10)
    counted = module.predict

    def interrupted(model, loader, device):
        if len(extracted) == 2:
            raise KeyboardInterrupt
        return counted(model, loader, device=device)

    monkeypatch.setattr(module, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compute(model, images, tmp_path)
    assert isinstance(model.fc, nn.Linear), "the model has its head back"
    monkeypatch.setattr(module, "predict", counted)
    features = compute(model, images, tmp_path)
    assert extracted == [4, 4, 2]
    monkeypatch.setattr(module, "BLOCK", 256)
    assert torch.allclose(features.float(), compute(model, images, tmp_path / "new").float(), rtol=2e-3, atol=1e-3)


def test_the_model_s_modes_and_head_are_what_they_were(tmp_path):
    model = network()
    freeze(model, "layer1")
    head, modes = model.fc, [layer.training for layer in model.modules()]
    statistics = model.bn1.running_mean.clone()
    compute(model, pictures(), tmp_path)
    assert model.fc is head and [layer.training for layer in model.modules()] == modes
    assert torch.equal(model.bn1.running_mean, statistics)


def test_the_features_in_bfloat16_are_near_those_in_float32(tmp_path, monkeypatch):
    """Near enough for a probe: bfloat16 keeps 8 bits, and PyTorch can do it on every CPU, if slowly."""
    model, images, found = network("resnet18"), pictures(), {}
    for bfloat16 in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=bfloat16: answer, raising=False)
        found[bfloat16] = compute(model, images, tmp_path).float()
    error = (found[True] - found[False]).norm() / found[False].norm()
    assert 0 < error < 0.03


def overflowing():
    model = network()
    model.bn1.weight.data.fill_(1e9)
    model.bn1.eps = 1e-12
    model.layer4[0].bn2.weight.data.fill_(1e30)
    return model


@pytest.mark.parametrize(
    ("model", "images", "message"),
    [
        (nn.Linear(3, 4), pictures(), "build_classifier"),
        (network(), torch.rand(6, 3, 32, 32), "uint8"),
        (overflowing(), pictures(), "65,504"),
    ],
)
def test_what_cannot_work_is_refused(model, images, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        compute(model, images, tmp_path)
    assert not list(tmp_path.glob("*.pt*"))


def test_a_feature_loader_takes_features_and_follows_its_seed():
    features, labels = torch.arange(40.0)[:, None].repeat(1, 3).half(), torch.arange(40)

    def order(seed):
        loader = make_feature_loader(features, labels, batch_size=16, train=True, seed=seed, drop_last=True)
        batches = [(inputs, targets) for inputs, targets in loader]
        assert all(inputs.dtype == torch.float32 and inputs.shape == (16, 3) for inputs, _ in batches)
        assert all(torch.equal(inputs[:, 0], targets.float()) for inputs, targets in batches)
        return [target for _, targets in batches for target in targets.tolist()]

    assert order(0) == order(0) != order(1) and len(order(0)) == 32
    with pytest.raises(ValueError, match=r"shape \(N, D\)"):
        make_feature_loader(features[:, 0], labels, batch_size=16, train=True, seed=0)
    with pytest.raises(ValueError, match="40 images and 39 labels"):
        make_feature_loader(features, labels[:39], batch_size=16, train=True, seed=0)
