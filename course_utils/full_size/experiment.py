"""The corrected experiment as one function: data, model, training, test, and a directory that holds all of the run."""

import contextlib
import hashlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn as nn
from filelock import FileLock, Timeout
from torch.utils.data import DataLoader

from course_utils.data import load_cifar10, load_digits_rgb, make_loader, random_affine, split_by_group
from course_utils.device import device_report, peak_memory, seed_everything
from course_utils.files import write_atomically
from course_utils.full_size.features import cached_features, head_for_features, make_feature_loader
from course_utils.full_size.folder import TEST, VAL, Pictures, read_folder
from course_utils.full_size.pipeline import make_full_size_loader, to_inputs
from course_utils.full_size.ranks import Ranks, Together, explained, from_first, shard
from course_utils.full_size.saved_model import save_model, write_table
from course_utils.models import build_classifier, freeze, parameter_groups, unfreeze
from course_utils.pocket import InputSpec, pocket_input_spec
from course_utils.recipes import RATES, THAW_AT, one_cycle
from course_utils.tracking import RunLogger
from course_utils.training import History, accuracy, fit, predict

MISTAKES = ("picture", "class", "taken_for", "probability")
SETTINGS_FILE, MODEL_FILE, SUMMARY_FILE = "settings.json", "model.pt", "summary.json"
SIZES = {
    "pocket": dict(data="digits", model="tiny_resnet", epochs=20, batch_size=64),
    "full": dict(data="cifar10", model="resnet50", epochs=10, batch_size=128),
}
# The learning rates of (head, backbone) for torchvision's networks; those of `recipes.RATES` are the pocket network's.
# Starting points, not tuned as those are: compare a few with --lr on the validation part.
TORCHVISION_RATES = {
    "scratch": (1e-3, 1e-3),
    "probe": (1e-3, 1e-3),
    "full": (2e-4, 2e-4),
    "discriminative": (1e-3, 1e-4),
    "gradual": (1e-3, 2e-4),
}
AUGMENT = ("photo", "sign", "none")  # mirrored and moved; turned, moved and stretched, not mirrored; as they are


@dataclass(frozen=True)
class Settings:
    """What decides the numbers of a run."""

    data: str  # "digits", "cifar10", or a folder of pictures
    model: str  # a name that `models.build_classifier` knows
    recipe: str  # one of `recipes.RATES`
    epochs: int
    batch_size: int  # over all processes
    image_size: int  # pixels
    augment: str  # one of AUGMENT
    lr: float  # of the head; the backbone's stands in the recipe's proportion to it
    seed: int
    processes: int

    def check(self) -> None:
        """Raise ValueError for what cannot work, before anything is read or built."""
        for name, least in (("epochs", 1), ("batch_size", 2), ("image_size", 8), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} must be {least} or more, not {getattr(self, name)}.")
        if self.seed >= 2**32:
            raise ValueError(f"--seed must be below {2**32:,}, the most that NumPy takes, not {self.seed}.")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"--lr must be a positive number, not {self.lr}.")
        if self.batch_size % self.processes:
            raise ValueError(
                f"--batch-size {self.batch_size} cannot be dealt out evenly to {self.processes} processes: take "
                f"{self.batch_size // self.processes * self.processes or self.processes}."
            )
        if self.recipe == "probe" and self.processes > 1:
            raise ValueError("The recipe 'probe' trains one layer: one process does it, without torchrun.")

    @property
    def rates(self) -> tuple[float, float]:
        """The learning rates of the head and of the backbone."""
        head, backbone = rates_of(self.model, self.recipe)
        return self.lr, self.lr * backbone / head


def rates_of(model: str, recipe: str) -> tuple[float, float]:
    return (RATES if model == "tiny_resnet" else TORCHVISION_RATES)[recipe]


def spec_of(model: str) -> InputSpec:
    """What the weights of a model expect, without them. Raises ValueError for an unknown model."""
    if model == "tiny_resnet":
        return pocket_input_spec()
    with torch.device("meta"):  # shapes alone: no memory, and no random numbers drawn
        return build_classifier(model, 1).input_spec


# --- a run's directory ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def alone_in(run_dir: Path) -> Iterator[None]:
    """Make the directory and keep other processes out of it. Raises FileExistsError where one is at work there."""
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / ".lock")  # the system frees it when its holder ends, even a killed one
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FileExistsError(f"Another process is training into {run_dir} just now: choose another --out.") from error
    try:
        yield
    finally:
        lock.release()


def started_run(run_dir: Path) -> tuple[Settings, str] | None:
    """The settings, and the fingerprint of the data, of the run in a directory; None where none has begun.

    Raises FileExistsError where the directory holds something else.
    """
    file = run_dir / SETTINGS_FILE
    if file.is_file():
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
            return Settings(**known["settings"]), known["data_sha256"]
        except (ValueError, LookupError, TypeError) as error:
            raise FileExistsError(
                f"{file} is damaged, or another program's: choose a new or empty directory for --out."
            ) from error
    left = (".lock", ".unfinished")  # by a call that was killed before it had written the settings
    if run_dir.exists() and (not run_dir.is_dir() or any(not p.name.endswith(left) for p in run_dir.iterdir())):
        raise FileExistsError(f"{run_dir} holds something, and no run: choose a new or empty directory for --out.")
    return None


def begin(run_dir: Path, settings: Settings, data_sha256: str) -> None:
    """Write what the run begins with, or hold it against what it began with. Raises ValueError for other data."""
    started = started_run(run_dir)
    if started is not None and started[1] != data_sha256:
        raise ValueError(
            f"The pictures are not those that {run_dir} was started with, so its test would be spoilt: put the old "
            "ones back, or start a new run in another --out."
        )
    content = json.dumps({"settings": asdict(settings), "data_sha256": data_sha256}, indent=1)
    write_atomically(run_dir / SETTINGS_FILE, content.encode("utf-8"))


def fingerprint(pictures: Pictures) -> str:
    """SHA-256 of all that the data contribute to the numbers: pixels, labels, parts, and the names of the classes."""
    digest = hashlib.sha256(repr(pictures.data.class_names).encode())
    for part in (pictures.data.images, pictures.data.labels, pictures.data.groups):
        digest.update(part.contiguous().numpy())
    return digest.hexdigest()


# --- data, model, loaders ---------------------------------------------------------------------------------------------


def load_pictures(settings: Settings, data_root: Path, progress: bool) -> Pictures:
    """The data of a run as uint8, with groups 0 for training, 1 for validation and 2 for the test."""
    if settings.data == "cifar10":
        data = load_cifar10(data_root)
    elif settings.data == "digits":
        digits = load_digits_rgb()
        images = (pocket_input_spec().undo(digits.images) * 255).round().to(torch.uint8)
        data = digits._replace(images=images, groups=torch.tensor([0] * 7 + [VAL] * 2 + [TEST] * 5)[digits.groups])
    else:
        spec = replace(spec_of(settings.model), size=settings.image_size)
        return read_folder(settings.data, spec, seed=settings.seed, progress=progress)
    return Pictures(data, tuple(f"image {i}" for i in range(len(data.labels))), ())


def build(settings: Settings, num_classes: int, ranks: Ranks) -> nn.Module:
    """The model on its device, with what the recipe freezes frozen; the same on every process."""
    seed_everything(settings.seed)
    weights = None if settings.recipe == "scratch" else "DEFAULT"
    model = build_classifier(settings.model, num_classes, weights=weights)
    model.input_spec = replace(model.input_spec, size=settings.image_size)
    if settings.recipe == "gradual" and not all(hasattr(model, part) for part in THAW_AT):
        raise ValueError(f"The recipe 'gradual' thaws the parts of a ResNet; {settings.model} has others.")
    if ranks.count > 1 and ranks.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # before freezing: it puts new layers in
    model.to(ranks.device, memory_format=torch.channels_last)
    if settings.recipe in ("probe", "gradual"):
        freeze(model, "")
        unfreeze(model, model.head_name)
    return model


def image_loaders(pictures: Pictures, settings: Settings, spec: InputSpec, ranks: Ranks) -> list[DataLoader]:
    """Loaders for training, validation and test; each process gets its rows of every batch."""
    split = split_by_group(pictures.data.groups, val=[VAL], test=[TEST])
    parts = [(pictures.data.images[part], pictures.data.labels[part]) for part in split]
    batches = training_batches(len(split.train), settings)
    options = dict(image_size=settings.image_size, spec=spec, device=ranks.device, seed=settings.seed)

    def jitter(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (random_affine(images.float() / 255, generator) * 255).round().to(torch.uint8)

    if settings.augment == "photo":
        train = make_full_size_loader(*parts[0], train=True, **batches, **options)
    else:
        augment = jitter if settings.augment == "sign" else None
        prepare = lambda images: to_inputs(images.to(ranks.device), spec)  # noqa: E731
        train = make_loader(*parts[0], shuffle=True, seed=settings.seed, augment=augment, prepare=prepare, **batches)
    held_out = [
        make_full_size_loader(*part, batch_size=settings.batch_size, train=False, **options) for part in parts[1:]
    ]
    return [shard(loader, ranks) if ranks.count > 1 else loader for loader in (train, *held_out)]


def feature_loaders(
    model: nn.Module, pictures: Pictures, settings: Settings, device: torch.device, folder: Path, progress: bool
) -> list[DataLoader]:
    """Loaders for training, validation and test of the head alone: the rest of the model runs once an image."""
    options = dict(image_size=settings.image_size, device=device, folder=folder, progress=progress)
    features = cached_features(model, pictures.data.images, **options)
    split = split_by_group(pictures.data.groups, val=[VAL], test=[TEST])
    return [
        make_feature_loader(
            features[part], pictures.data.labels[part], batch_size=settings.batch_size, train=train, seed=settings.seed
        )
        for part, train in zip(split, (True, False, False), strict=True)
    ]


def training_batches(count: int, settings: Settings) -> dict:
    """The batch size, no larger than the training part, and whether an uneven last batch is left out.

    It is left out where processes share it, and where it is a single picture, of which BatchNorm can take no variance.
    Raises ValueError where there are too few pictures for the processes.
    """
    batch_size = min(settings.batch_size, count // settings.processes * settings.processes)
    if not batch_size:
        raise ValueError(f"{count} training pictures are too few for {settings.processes} processes.")
    return dict(batch_size=batch_size, drop_last=settings.processes > 1 or (batch_size > 1 and count % batch_size == 1))


# --- the run ----------------------------------------------------------------------------------------------------------


def run_experiment(settings: Settings, run_dir: Path, *, ranks: Ranks, data_root: Path, progress: bool = False) -> dict:
    """Train, or go on where the run in this directory stopped, test, and write everything; returns the summary.

    A run goes on from the end of its last whole epoch, with the numbers that it would have had (on a CPU, to the bit).
    Only the first process writes and prints. Raises ValueError where the data are not those that the run began with,
    FileNotFoundError and ConnectionError where data or weights are missing, ProcessLost where another process ended.
    """
    started = time.perf_counter()
    progress = progress and ranks.first
    pictures = load_pictures(settings, data_root, progress)
    model = build(settings, len(pictures.data.class_names), ranks)
    if ranks.first:
        for name, why in pictures.skipped:
            print(f"skipped {name}: {why}")
        print(f"{parts_of(pictures)}\n{device_report(ranks.device)}")
        begin(run_dir, settings, fingerprint(pictures))
    if settings.recipe == "probe":
        loaders = feature_loaders(model, pictures, settings, ranks.device, data_root / "features", progress)
        trained = head_for_features(model)
    else:
        loaders = image_loaders(pictures, settings, model.input_spec, ranks)
        with explained():  # it talks to the other processes
            trained = Together(model, ranks) if ranks.count > 1 else model
    with explained():
        history = train(trained, model, loaders, settings, run_dir, ranks, progress)
        outputs, targets = predict(trained, loaders[2], device=ranks.device, amp=True)
    summary = {
        **score(outputs, targets),
        "epochs": len(history.epochs),
        "training_seconds": round(sum(history.seconds), 2),  # of all epochs, validation included
        "training_images_per_second": round(images_seen(history, loaders[0]) / sum(history.seconds), 1),
        "seconds_of_the_last_call": round(time.perf_counter() - started, 2),
        "peak_memory_gib": round(peak_memory(ranks.device) / 2**30, 2),
    }
    if ranks.first:
        save_model(run_dir / MODEL_FILE, model, settings.model, pictures.data.class_names)
        write_table(run_dir / "history.csv", history_rows(history))
        write_table(run_dir / "mistakes.csv", mistakes(outputs, targets, pictures), columns=MISTAKES)
        write_atomically(run_dir / SUMMARY_FILE, json.dumps(summary, indent=1).encode("utf-8"))  # last: all is there
    return summary


def train(
    trained: nn.Module, model: nn.Module, loaders: list, settings: Settings, run_dir: Path, ranks: Ranks, progress: bool
) -> History:
    """All epochs, with the checkpoint and the event files of the run.

    trained: what `fit` gets: the model, its head alone, or the model together with those of other processes.
    """
    head_rate, backbone_rate = settings.rates
    if settings.recipe == "probe":
        groups = [{"params": list(trained.parameters()), "lr": head_rate}]
    else:
        groups = parameter_groups(model, {model.head_name: head_rate}, default_lr=backbone_rate)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    scheduler = one_cycle(optimizer, settings.epochs * len(loaders[0]))
    begun = 0

    def before_epoch(epoch: int) -> None:
        nonlocal begun
        begun = epoch + 1
        if settings.recipe == "gradual":
            last = settings.epochs - 1
            unfreeze(model, [part for part, share in THAW_AT.items() if epoch >= min(share * settings.epochs, last)])
        if ranks.count > 1:
            trained.synchronise()

    with contextlib.ExitStack() as stack:
        checkpoint = run_dir / "checkpoint.pt"
        if ranks.count > 1:
            checkpoint = own_copy(checkpoint, Path(stack.enter_context(tempfile.TemporaryDirectory())), ranks)
        logger = stack.enter_context(RunLogger(run_dir, resume=True)) if ranks.first else None
        try:
            return fit(
                trained,
                *loaders[:2],
                loss_fn=nn.CrossEntropyLoss(),
                optimizer=optimizer,
                scheduler=scheduler,
                device=ranks.device,
                epochs=settings.epochs,
                metrics={"accuracy": accuracy},
                logger=logger,
                before_epoch=before_epoch,
                amp=True,
                checkpoint=checkpoint,
                resume=True,  # where there is no checkpoint yet, it begins
                progress=progress,
            )
        except KeyboardInterrupt:
            if ranks.first:
                kept = f"epochs 1 to {begun - 1} are kept" if begun > 1 else "no epoch was finished"
                print(f"\nStopped in epoch {begun} of {settings.epochs}: {kept}.", file=sys.stderr)
            raise


def own_copy(checkpoint: Path, folder: Path, ranks: Ranks) -> Path:
    """The first process's checkpoint for each other one, which writes its own where nobody reads it."""
    content = from_first(checkpoint.read_bytes() if ranks.first and checkpoint.exists() else None, ranks)
    if ranks.first:
        return checkpoint
    if content is not None:
        (folder / checkpoint.name).write_bytes(content)
    return folder / checkpoint.name


# --- what is said and written -----------------------------------------------------------------------------------------


def parts_of(pictures: Pictures) -> str:
    """A sentence: how many pictures, of which classes, in which parts."""
    names, counts = pictures.data.class_names, pictures.data.groups.bincount(minlength=3).tolist()
    listed = ", ".join(names if len(names) <= 12 else [*names[:10], f"... {names[-1]}"])
    return (
        f"{sum(counts):,} pictures of {len(names)} classes ({listed}): "
        f"{counts[0]:,} to train on, {counts[VAL]:,} to validate, {counts[TEST]:,} to test."
    )


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share, right of count; it stays between 0 and 1, and is sound for few pictures too.

    It takes the pictures for independent of each other. Source: E. B. Wilson, Probable inference, the law of
    succession, and statistical inference, JASA 22 (1927), 209-212.
    """
    share, scale = right / count, 1 + z**2 / count
    middle, half = share + z**2 / (2 * count), z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def score(outputs: torch.Tensor, targets: torch.Tensor) -> dict:
    """Test accuracy from logits (N, K) and class numbers (N,), with its interval."""
    right = int(accuracy(outputs, targets).sum())
    low, high = wilson(right, len(targets))
    return {
        "test_accuracy": round(right / len(targets), 4),
        "interval_95": [round(low, 4), round(high, 4)],
        "test_images": len(targets),
    }


def images_seen(history: History, loader: DataLoader) -> int:
    """How many images all training steps took together; a last batch that is left out is not among them."""
    last_left_out = len(loader) * loader.sampler.batch_size
    return len(history.epochs) * min(len(loader.dataset), last_left_out)


def history_rows(history: History) -> list[dict]:
    return [{**row, "seconds": round(s, 3)} for row, s in zip(history.epochs, history.seconds, strict=True)]


def mistakes(outputs: torch.Tensor, targets: torch.Tensor, pictures: Pictures) -> list[dict]:
    """The test pictures that were taken for another class, the most certain first."""
    probabilities, predicted = outputs.softmax(dim=1).max(dim=1)
    test = (pictures.data.groups == TEST).nonzero().flatten().tolist()
    names = pictures.data.class_names
    rows = [
        dict(
            zip(
                MISTAKES,
                (pictures.names[test[i]], names[targets[i]], names[predicted[i]], round(probabilities[i].item(), 4)),
                strict=True,
            )
        )
        for i in (predicted != targets).nonzero().flatten().tolist()
    ]
    return sorted(rows, key=lambda row: -row["probability"])


def summary_text(settings: Settings, summary: dict) -> str:
    """The summary for people."""
    low, high = summary["interval_95"]
    return (
        f"{settings.model}, recipe {settings.recipe}, {settings.image_size} pixels, {summary['epochs']} epochs\n"
        f"test accuracy  {summary['test_accuracy']:.1%} of {summary['test_images']:,} pictures "
        f"(95 % interval {low:.1%} to {high:.1%})\n"
        f"training       {summary['training_seconds']:.1f} s, {summary['training_images_per_second']:,.0f} images "
        "a second, validation included\n"
        f"this call      {summary['seconds_of_the_last_call']:.1f} s in all, "
        f"{summary['peak_memory_gib']:.2f} GiB of memory at most\n"
    )
