"""The patients of the clinic: what their owners say, how the runs are made, what is wrong, and what speaks against
every other diagnosis.
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from course_utils.clinic import faults
from course_utils.clinic.diagnoses import DIAGNOSES, check, opinion
from course_utils.clinic.signs import MEANING, measured
from course_utils.clinic.ward import CLASSES, Training
from course_utils.files import RESULTS, load_results
from course_utils.tracking import read_scalars

CLINIC = RESULTS / "clinic"  # healthy/seed-00 ..., NAME/sick, NAME/healed: a log each; runs.csv: what was measured
HEALTHY_SEEDS = range(24)
SHIPPED_SEEDS = range(5)  # of these the logs lie in the repository, of the others the signs alone


@dataclass(frozen=True)
class Patient:
    """One sick training. The name says nothing of what it has; `seed` is that of both of its runs."""

    name: str
    seed: int
    card: str  # what its owner says
    diagnosis: str
    sick: type[Training]
    cause: str  # where in the code
    healed: type[Training] = Training
    look: str = "loss/train and loss/val"  # the curves that show it
    against: dict[str, str] = field(default_factory=dict)  # a wrong diagnosis that the signs fit too -> what refutes it

    @property
    def sick_run(self) -> Path:
        """The directory of the log that ships."""
        return CLINIC / self.name / "sick"

    @property
    def healed_run(self) -> Path:
        return CLINIC / self.name / "healed"


PATIENTS = {
    patient.name: patient
    for patient in (
        Patient(
            "ada", 101, "The loss falls, but so slowly. I have waited for all twelve epochs.",
            "rate too low", faults.RateTooLow,
            "rate = 3e-5: a hundredth of what this network takes.",
            look="update/head and gradient/norm",
        ),
        Patient(
            "ben", 102, "Early on the validation loss was in the thousands. In the end it was fine. Can I keep it?",
            "rate too high", faults.RateTooHigh,
            "rate = 0.1 for AdamW. The schedule lowers it to 0 in the end, and that saves the run, not the rate.",
            look="loss/val and update/backbone",
        ),
        Patient(
            "chi", 103, "100 % on the training images: the network is large enough. Volunteers gave the labels.",
            "over-fitting", faults.WrongLabels,
            "Four labels in ten are wrong. The network learns the six that agree first, then these by heart.",
            faults.LongTraining,
        ),
        Patient(
            "dora", 104, "I made the network small, so that it is quick. Training and validation agree nicely.",
            "under-fitting", faults.UnderFitting,
            "widths=(4, 4, 4, 4): too few channels to tell ten digits apart in so many steps.",
            faults.FromScratch, look="accuracy/train and accuracy/val",
        ),
        Patient(
            "emil", 105, "The accuracy is good, so why does the loss refuse to fall below one and a half?",
            "softmax before the loss", faults.SoftmaxBeforeTheLoss,
            "F.cross_entropy applies log-softmax itself. Probabilities, none "
            "above 1, are taken for logits, and never say more than that the right class is e times as likely.",
            look="loss/step and accuracy/val",
        ),
        Patient(
            "fay", 106, "Some points below the others' runs. The loop is the usual one, forward, backward, step.",
            "gradients not zeroed", faults.GradientsNotZeroed,
            "zero_grad does nothing, so each step follows the sum of all gradients so far.",
            look="gradient/norm",
        ),
        Patient(
            "gus", 107, "Training is perfect, validation lags by ten points. It must be over-fitting, mustn't it?",
            "eval() forgotten", faults.EvalForgotten,
            "The model is in training mode while it validates, in batches of four.",
            faults.SmallValidationBatches, look="batch_norm/drift after the first epoch, beside loss/val",
        ),
        Patient(
            "hana", 108, "The backbone is frozen, I have set requires_grad = False everywhere. Only the head trains.",
            "BatchNorm drifts", faults.BatchNormDrifts,
            "requires_grad is of parameters. Running means and variances are buffers, and move in training mode.",
            faults.HeadOnly, look="batch_norm/drift and update/backbone",
        ),
        Patient(
            "ivo", 109, "100 % on validation. Four altered copies of each image did wonders. When can we publish?",
            "leaking split", faults.CopiesSplit,
            "The images are copied first and split after, so nearly every validation image has a copy in training.",
            faults.Copies, look="accuracy/val, and loss/val beside loss/train",
        ),
        Patient(
            "jun", 110, "It learns the training images, if slowly. On validation it might as well throw dice.",
            "labels shuffled", faults.LabelsShuffled,
            "The labels are put into a random order, the images are not.",
            look="accuracy/val and accuracy/train",
        ),
        Patient(
            "kim", 111, "Ten points are lost on validation, and the images are as easy as the training images.",
            "validation inputs differ", faults.ValidationNormalisedTwice,
            "The validation images are normalised a second time.",
            look="input/val_mean and input/train_mean",
        ),
        Patient(
            "lea", 112, "I forgot to normalise, everywhere. Strangely, the result is no worse. Is it all right, then?",
            "inputs not normalised", faults.NeverNormalised,
            "The images go in as numbers up to 254. The BatchNorm behind the first convolution takes that out again. "
            "It did no measurable harm here; a network without BatchNorm there would not forgive it.",
            look="input/train_mean",
        ),
        Patient(
            "max", 113, "It trained for some steps, and then there was only NaN.",
            "gradient explodes", faults.Explodes,
            "rate = 1.0 for SGD, and a softmax by hand, whose exponential overflows. F.cross_entropy would not give "
            "NaN here, and would not learn at this rate either.",
            faults.SoftmaxByHand, look="gradient/norm and loss/step, up to their ends",
            against={
                "rate too high": "The rate is too high indeed, but say what came of it: {not_finite:.0f} values of "
                "this log are NaN or infinite, and there it ends. From a rate that is only too high a run comes back.",
                "under-fitting": "Nothing can be said about what this network is able to learn: {not_finite:.0f} "
                "values of its log are NaN or infinite.",
            },
        ),
        Patient(
            "nia", 114, "The loss stands at 2.30 from the first step to the last.",
            "dead layer", faults.DeadLayer,
            "The bias of the last BatchNorm starts at -20, and the ReLU behind it makes 0 of everything.",
            look="relu/dead and update/backbone",
        ),
        Patient(
            "otto", 115, "First the head, then everything, as the book says. Yet thawing changes nothing.",
            "frozen by mistake", faults.NeverTold,
            "The optimiser was given what was trainable when it was built: the head. Nobody told it of the thawing.",
            faults.ThawAtEpochTwo, look="update/backbone and gradient/norm",
        ),
        Patient(
            "pia", 116, "TensorBoard shows five points, although it trained for twelve epochs.",
            "step restarts", faults.StepRestarts,
            "The step that is logged begins anew in every epoch. The training itself is healthy.",
            look="the steps of loss/step",
        ),
        Patient(
            "quin", 117, "Accuracy well above 90 %. But users complain that it does not know their nines.",
            "rare classes hidden", faults.RareClasses,
            "The digits 5 to 9 are rare in training, and as rare in validation, where hardly anybody asks for them.",
            look="accuracy/val and accuracy/worst_class",
        ),
        Patient(
            "rosa", 118, "Of 24 seeds I took the best one on the test set, and this is the number that I report.",
            "chosen on the test set", faults.ChosenSeed,
            "The maximum of 24 noisy numbers. The number is that of the images that chose it; see `reveal_choice`.",
            look="accuracy/val",
        ),
        Patient(
            "sam", 119, "The loss is jagged like a comb, and it learns less than the others.",
            "data not shuffled", faults.NotShuffled,
            "The training images come sorted by class, and shuffle=True is missing: each batch holds two classes.",
            look="loss/step, closely",
        ),
    )
}  # fmt: skip


class Verdict(NamedTuple):
    """The answer to a diagnosis."""

    right: bool
    text: str


def diagnose(name: str, diagnosis: str) -> Verdict:
    """Is this what the patient has? If not, the evidence that speaks against it, from the patient's own curves.

    Raises ValueError for an unknown patient or diagnosis.
    """
    patient = find(name)
    check(diagnosis)
    found = signs_of(name)
    if diagnosis == patient.diagnosis:
        reason = opinion(found, diagnosis, healthy_ranges()).reason
        return Verdict(True, f"{reason} {patient.cause} {DIAGNOSES[diagnosis].cure}")
    if diagnosis in patient.against:
        return Verdict(False, patient.against[diagnosis].format(**found))
    said = opinion(found, diagnosis, healthy_ranges())
    if said.verdict == "in no curve":
        return Verdict(False, f"{said.reason} Here the curves themselves are not those of a healthy run.")
    return Verdict(False, f"{said.reason} Look at {patient.look}.")


def wrong_diagnoses(name: str) -> dict[str, str]:
    """{each wrong diagnosis: the evidence against it} for a patient."""
    right = find(name).diagnosis
    return {diagnosis: diagnose(name, diagnosis).text for diagnosis in DIAGNOSES if diagnosis != right}


def find(name: str) -> Patient:
    """The patient of that name. Raises ValueError where there is none."""
    if name not in PATIENTS:
        raise ValueError(f"There is no patient {name!r}. There are: {', '.join(PATIENTS)}.")
    return PATIENTS[name]


@functools.cache
def signs_of(name: str) -> dict[str, float]:
    """The signs of a patient's sick run, as it ships."""
    return measured(read_scalars(find(name).sick_run), CLASSES)


def healthy_rows() -> list[dict]:
    """What was measured of the healthy training, a row a seed."""
    return [row for row in load_results("runs", CLINIC) if row["run"].startswith("healthy/")]


@functools.cache
def healthy_ranges() -> dict[str, tuple[float, float]]:
    """{sign: (lowest, highest)} over the healthy seeds."""
    rows = healthy_rows()
    return {sign: (min(row[sign] for row in rows), max(row[sign] for row in rows)) for sign in MEANING}


def reveal_leak(name: str = "ivo") -> int:
    """How many validation images of a patient that was split after copying have a copy in its training set."""
    training = find(name).sick(find(name).seed)
    split, originals = training.split(), CLASSES * training.labels_per_class
    return int(sum(index % originals in set((split.train % originals).tolist()) for index in split.val.tolist()))


def reveal_choice() -> dict[str, float]:
    """Shares right: what a seed chosen by the 123 images of form 7 promises, and what 640 images of other forms say."""
    rows = healthy_rows()
    chosen = max(rows, key=lambda row: row["accuracy_form7"])
    return {
        "reported": chosen["accuracy_form7"],
        "chosen seed, fresh forms": chosen["accuracy_fresh"],
        "mean of all seeds, fresh forms": sum(row["accuracy_fresh"] for row in rows) / len(rows),
    }
