"""The faults of the clinic: each is a healthy training with one method, or one number, written wrongly.

Where a fault needs other circumstances to do harm (a frozen backbone, rare classes), these come first, as a healthy
training of their own. It is then also the healed run.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from course_utils.clinic.ward import CLASSES, Training, digits
from course_utils.data import make_loader, random_affine, split_at_random
from course_utils.files import RESULTS, load_results
from course_utils.models import build_classifier, freeze, unfreeze
from course_utils.pocket import TinyResNet
from course_utils.tracking import RunLogger


class RateTooHigh(Training):
    rate = 0.1  # of AdamW, for pretrained weights


class RateTooLow(Training):
    rate = 3e-5


class LongTraining(Training):
    """For 40 epochs, and without augmentation."""

    epochs = 40

    def train_loader(self):
        return make_loader(*self.train_examples(), batch_size=self.batch_size, shuffle=True, seed=self.seed)


class WrongLabels(LongTraining):
    def train_examples(self):
        images, labels = super().train_examples()
        generator = torch.Generator().manual_seed(self.seed)
        wrong = torch.rand(len(labels), generator=generator) < 0.4  # four labels in ten are another class
        other = torch.randint(1, CLASSES, labels.shape, generator=generator)
        return images, torch.where(wrong, (labels + other) % CLASSES, labels)


class FromScratch(Training):
    """Without pretrained weights, at the rate that suits random ones."""

    rate = 1e-2

    def model(self):
        return build_classifier("tiny_resnet", CLASSES)


class UnderFitting(FromScratch):
    def model(self):
        return TinyResNet(CLASSES, widths=(4, 4, 4, 4))  # 4 channels where the others have 16 to 128


class SoftmaxBeforeTheLoss(Training):
    def loss(self, outputs, targets):
        return F.cross_entropy(outputs.softmax(dim=1), targets)


class GradientsNotZeroed(Training):
    def optimizer(self, model):
        optimizer = super().optimizer(model)
        optimizer.zero_grad = lambda: None  # the loop calls it before each step, and nothing happens
        return optimizer


class SmallValidationBatches(Training):
    """The validation images in batches of 4, which changes no number as long as the model is in evaluation mode."""

    val_batch_size = 4


class EvalForgotten(SmallValidationBatches):
    def model(self):
        model = super().model()
        model.eval = model.train  # the evaluation asks for eval(), and the model stays in training mode
        return model


class HeadOnly(Training):
    """The backbone is frozen, its BatchNorm too; the new head learns."""

    rate = 1e-2

    def model(self):
        model = super().model()
        freeze(model, "")
        unfreeze(model, "fc")
        return model


class BatchNormDrifts(HeadOnly):
    def model(self):
        model = Training.model(self)
        for name, weight in model.named_parameters():
            weight.requires_grad = name.startswith("fc.")  # BatchNorm's running statistics are no parameters
        return model


class Copies(Training):
    """Four altered copies of each training image; validation on images of other forms."""

    def train_examples(self):
        images, labels = super().train_examples()
        return random_affine(images.repeat(4, 1, 1, 1), torch.Generator().manual_seed(self.seed)), labels.repeat(4)


class CopiesSplit(Copies):
    def split(self):
        return split_at_random(4 * CLASSES * self.labels_per_class, val=250, test=1, seed=self.seed)

    def train_examples(self):
        images, labels = super().train_examples()
        return images[self.split().train], labels[self.split().train]

    def val_examples(self):
        images, labels = super().train_examples()
        return images[self.split().val], labels[self.split().val]


class LabelsShuffled(Training):
    def train_examples(self):
        images, labels = super().train_examples()
        return images, labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))]


class ValidationNormalisedTwice(Training):
    def val_examples(self):
        images, labels = super().val_examples()
        return (images - 0.35) / 0.35, labels  # they are normalised already


class NeverNormalised(Training):
    def prepare(self, images):
        return 255 * (images * 0.35 + 0.35) - 1  # pixels, from -1 to 254: `fit` would see through 0 to 255


class SoftmaxByHand(Training):
    """SGD with momentum, and a loss whose exponential overflows beyond 88; at this rate it stays far below."""

    rate = 0.03

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=self.rate, momentum=0.9)

    def loss(self, outputs, targets):
        odds = outputs.exp()
        probabilities = odds / odds.sum(dim=1, keepdim=True)
        return -probabilities.gather(1, targets[:, None]).log().mean()


class Explodes(SoftmaxByHand):
    rate = 1.0


class DeadLayer(Training):
    def model(self):
        model = super().model()
        nn.init.constant_(model.layer4[0].bn2.bias, -20)  # below 0 for every image, and so 0 behind the ReLU
        return model


class ThawAtEpochTwo(Training):
    """The head learns first; from the third epoch on everything does."""

    def model(self):
        model = super().model()
        freeze(model, "")
        unfreeze(model, "fc")
        return model

    def before_epoch(self, model, epoch):
        if epoch == 2:
            unfreeze(model)


class NeverTold(ThawAtEpochTwo):
    def optimizer(self, model):
        training = [weight for weight in model.parameters() if weight.requires_grad]  # at this time: the head
        return torch.optim.AdamW(training, lr=self.rate, weight_decay=self.weight_decay)


class RestartingLogger(RunLogger):
    def log_scalars(self, values, step):
        for tag, value in values.items():
            self.writer.add_scalar(tag, float(value), (step - 1) % 5 + 1)  # from 1 in each epoch of 5 steps


class StepRestarts(Training):
    def logger(self, run_dir):
        return RestartingLogger(run_dir)


class RareClasses(Training):
    """38 images of each digit from 0 to 4 and 2 of each from 5 to 9, in training and in validation (25 and 2)."""

    labels_per_class = 38

    def train_examples(self):
        return self.mostly_small_digits(*super().train_examples())

    def val_examples(self):
        return self.mostly_small_digits(*super().val_examples())

    def mostly_small_digits(self, images, labels):
        kept = [(labels == k).nonzero().flatten()[: None if k < 5 else 2] for k in range(CLASSES)]
        return images[torch.cat(kept)], labels[torch.cat(kept)]


class ChosenSeed(Training):
    """One of 24 seeds of the healthy training, the one with the best accuracy on form 7, and that accuracy reported."""

    def __init__(self, seed: int):
        rows = [row for row in load_results("runs", RESULTS / "clinic") if row["run"].startswith("healthy")]
        super().__init__(max(rows, key=lambda row: row["accuracy_form7"])["seed"])

    def val_examples(self):
        data, _ = digits()
        return self.prepare(data.images[data.groups == 7]), data.labels[data.groups == 7]


class NotShuffled(Training):
    def train_loader(self):
        return make_loader(*self.train_examples(), batch_size=self.batch_size, seed=self.seed, augment=random_affine)
