"""The healthy training of the clinic, each step of it a method, and what is measured in every run.

A patient is the same training with one method written wrongly: see `faults`.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

from course_utils.data import (
    LabelledImages,
    Split,
    few_labels,
    load_digits_rgb,
    make_loader,
    random_affine,
    split_by_group,
)
from course_utils.device import seed_everything
from course_utils.models import build_classifier
from course_utils.recipes import one_cycle
from course_utils.tracking import RunLogger
from course_utils.training import Logger, TrainingDiverged, accuracy, fit, predict

CLASSES = 10
CPU = torch.device("cpu")


@functools.cache
def digits() -> tuple[LabelledImages, Split]:
    """The digits and the course's split of them: forms 0 to 6 to train on, 7 and 8 to validate on."""
    data = load_digits_rgb()
    return data, split_by_group(data.groups, val=(7, 8), test=(9, 10, 11, 12, 13))


class Training:
    """Fine-tune the pocket network on 20 labels a class: 12 epochs of 5 batches of 40, seconds on one core."""

    labels_per_class = 20
    batch_size = 40
    val_batch_size = 251  # all of the validation images
    epochs = 12
    rate = 3e-3
    weight_decay = 0.01

    def __init__(self, seed: int):
        self.seed = seed

    def train_examples(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (N, 3, 32, 32) and labels (N,) to train on, sorted by class."""
        data, split = digits()
        chosen = few_labels(data.labels, split.train, per_class=self.labels_per_class, seed=self.seed)
        return self.prepare(data.images[chosen]), data.labels[chosen]

    def val_examples(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels of forms that no training image comes from."""
        data, split = digits()
        return self.prepare(data.images[split.val]), data.labels[split.val]

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Images as the network is to get them; those of `digits` are normalised already."""
        return images

    def train_loader(self):
        images, labels = self.train_examples()
        return make_loader(
            images, labels, batch_size=self.batch_size, shuffle=True, seed=self.seed, augment=random_affine
        )

    def val_loader(self):
        return make_loader(*self.val_examples(), batch_size=self.val_batch_size)

    def model(self) -> nn.Module:
        return build_classifier("tiny_resnet", CLASSES, weights="DEFAULT")

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs, targets)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=self.rate, weight_decay=self.weight_decay)

    def before_epoch(self, model: nn.Module, epoch: int) -> None:
        """The place to freeze and thaw; a healthy training of all layers has nothing to do here."""

    def logger(self, run_dir: Path | str) -> RunLogger:
        return RunLogger(run_dir)

    def run(self, run_dir: Path | str) -> nn.Module:
        """Train, log to `run_dir`, and return the model; a training that diverges ends there, and its log with it."""
        seed_everything(self.seed)
        model = self.model().to(memory_format=torch.channels_last)
        train_loader, val_loader = self.train_loader(), self.val_loader()
        optimizer = self.optimizer(model)
        scheduler = one_cycle(optimizer, self.epochs * len(train_loader))
        val_labels = val_loader.dataset.tensors[1]
        with self.logger(run_dir) as logger, Monitor(logger, model, optimizer, val_labels) as monitor:
            try:
                fit(
                    model,
                    train_loader,
                    val_loader,
                    loss_fn=self.loss,
                    optimizer=optimizer,
                    scheduler=scheduler,
                    device=CPU,
                    epochs=self.epochs,
                    logger=monitor,
                    metrics={"accuracy": accuracy},
                    before_epoch=functools.partial(self.before_epoch, model),
                    progress=False,
                )
            except TrainingDiverged as error:
                print(f"The training ended early. {error}".partition(" Try")[0])
        return model


class Monitor:
    """A logger for `fit` that measures more, at what the training computes anyway, and hands everything on.

    with Monitor(logger, model, optimizer, val_labels) as monitor:
        fit(..., logger=monitor)

    At the end of the block its hooks are taken off the model and the optimiser, after an error too.
    For a ResNet (the parts `fc` and `avgpool`), and a validation loader that keeps the order of `val_labels`.

    At each step "gradient/norm", as the optimiser finds it, and "update/head" and "update/backbone": by what share of
    their own length the weights of the head, and the others, move. At the end of an epoch:
    "accuracy/worst_class": the lowest share of right answers among the classes of the validation images;
    "relu/dead": the share of channels before the pooling that are 0 for every validation image;
    "batch_norm/drift": how far BatchNorm's running means have moved from the start, in units of the running standard
    deviations then (the root of the mean square); and mean and standard deviation of the last batch that the model was
    given, "input/train_mean" and so on.
    """

    def __init__(self, logger: Logger, model: nn.Module, optimizer: torch.optim.Optimizer, val_labels: torch.Tensor):
        self.logger, self.val_labels, self.step = logger, val_labels, 0
        self.parts = {"head": list(model.fc.parameters())}
        self.parts["backbone"] = [weight for name, weight in model.named_parameters() if not name.startswith("fc.")]
        self.means = [buffer for name, buffer in model.named_buffers() if name.endswith("running_mean")]
        self.means_before = flat(self.means).clone()
        self.deviations = flat([b for name, b in model.named_buffers() if name.endswith("running_var")]).sqrt()
        self.answers, self.alive, self.inputs = [], [], {}
        self.hooks = [
            optimizer.register_step_pre_hook(self.before_step),
            optimizer.register_step_post_hook(self.after_step),
            model.register_forward_hook(self.see_batch),
            model.avgpool.register_forward_hook(self.see_features),
        ]

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *error) -> None:
        for hook in self.hooks:
            hook.remove()

    def before_step(self, optimizer, args, kwargs) -> None:
        gradients = [weight.grad for part in self.parts.values() for weight in part if weight.grad is not None]
        self.gradient = flat(gradients).norm().item()
        self.before = {name: flat(part).clone() for name, part in self.parts.items()}

    def after_step(self, optimizer, args, kwargs) -> None:
        self.step += 1
        moved = {
            f"update/{name}": ((flat(self.parts[name]) - old).norm() / old.norm()).item()
            for name, old in self.before.items()
        }
        self.logger.log_scalars({"gradient/norm": self.gradient, **moved}, self.step)

    def see_batch(self, model, inputs, outputs) -> None:
        kind = "train" if torch.is_grad_enabled() else "val"  # not model.training, which a fault may have wrong
        self.inputs |= {f"input/{kind}_mean": inputs[0].mean(), f"input/{kind}_std": inputs[0].std()}
        if kind == "val":
            self.answers.append(outputs.argmax(dim=1))
            self.num_outputs = outputs.shape[1]

    def see_features(self, pooling, inputs, outputs) -> None:
        if not torch.is_grad_enabled():
            self.alive.append((inputs[0] > 0).any(dim=(0, 2, 3)))

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        if self.answers:  # an evaluation lies behind us: these are the values of an epoch
            right = torch.cat(self.answers) == self.val_labels
            classes = [k for k in self.val_labels.unique() if 0 <= k < self.num_outputs]  # others the loss ignores
            values = {
                **values,
                "accuracy/worst_class": min(right[self.val_labels == k].float().mean() for k in classes),
                "relu/dead": 1 - torch.stack(self.alive).any(dim=0).float().mean(),
                "batch_norm/drift": ((flat(self.means) - self.means_before) / self.deviations).square().mean().sqrt(),
                **self.inputs,
            }
            self.answers, self.alive = [], []
        self.logger.log_scalars(values, step)

    def purge_from(self, step: int) -> None:
        self.logger.purge_from(step)


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    """All numbers of some tensors in one vector, without a gradient."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def share_right(training: Training, model: nn.Module, indices: torch.Tensor) -> float:
    """The accuracy of a trained model, in evaluation mode, on the digits with these indices."""
    data, _ = digits()
    loader = make_loader(training.prepare(data.images[indices]), data.labels[indices], batch_size=256)
    return accuracy(*predict(model, loader, device=CPU)).double().mean().item()
