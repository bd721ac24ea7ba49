"""The exercises of notebook 08: LoRA's size, merging, the projection of an attack, an attack, epsilon's units."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from course_utils.beyond import attacks
from course_utils.beyond.efficient import LoRA
from course_utils.exercises.cnn import small_net
from course_utils.exercises.question import Finding, Mistake, Question, calls

q1 = Question(
    name="next_steps.q1",
    title="What LoRA trains",
    text="A linear layer has 768 inputs, 768 outputs and a bias. It gets LoRA of rank 8. How many numbers train in it?",
    fills="trained",
    kind="value",
    right=2 * 8 * 768,
    praise="Two thin matrices, 8 x 768 and 768 x 8: 2 % of the 590,592 numbers of the layer.",
    mistakes=(
        Mistake("one matrix", 8 * 768, "That is one of the two matrices. `down` leads to rank 8, and `up` back again."),
        Mistake(
            "the correction when it is multiplied out",
            768 * 768,
            "So many numbers the correction has once `up @ down` is multiplied out. What trains are the two factors.",
        ),
        Mistake(
            "the bias too",
            2 * 8 * 768 + 768,
            "You counted the bias. It belongs to the layer, which stays frozen; `down` and `up` have none.",
        ),
        Mistake("a square of rank 8", 8 * 8, "The rank is the width in the middle: each factor has 768 at one end."),
        Mistake(
            "an eighth of the weight",
            768 * 768 // 8,
            "The rank does not divide the weight. It is the width of the two factors, 8 x 768 and 768 x 8.",
        ),
    ),
    hints=(
        "The correction is a product of two matrices. Which shapes must they have, with 8 in the middle?",
        "`down` is 8 x 768 and `up` is 768 x 8. The layer itself is frozen.",
    ),
    solution_code="trained = 8 * 768 + 768 * 8",
)


def factors(size: int, rank: int, alpha: float) -> tuple:
    """A square weight, the two factors of a correction, and alpha."""
    generator = torch.Generator().manual_seed(size)
    shapes = (size, size), (rank, size), (size, rank)
    return *(torch.randn(shape, generator=generator) for shape in shapes), alpha


def course_merge(weight, down, up, alpha):
    layer = LoRA(torch.nn.Linear(*weight.shape[::-1]), rank=len(down), alpha=alpha)
    layer.layer.weight.data, layer.down.weight.data, layer.up.weight.data = weight, down, up
    return layer.merged().weight


q2 = Question(
    name="next_steps.q2",
    title="Merge it by hand",
    text="`weight` is the weight of a linear layer, `(O, I)`; `down` `(r, I)` and `up` `(O, r)` were learned beside "
    "it, with `alpha`. Write `merged_weight(weight, down, up, alpha)`: the weight of the one layer that computes the "
    "same.",
    fills="merged_weight",
    right=course_merge,
    observe=calls(
        ("size 6 and rank 2", lambda: factors(6, 2, alpha=6.0)),
        ("size 5 and rank 3", lambda: factors(5, 3, alpha=4.0)),
    ),
    praise="One layer again, at the old cost.",
    mistakes=(
        Mistake(
            "no scale",
            lambda w, down, up, alpha: w + up @ down,
            "The product is right and its factor is missing: the correction counts `alpha / r` times.",
        ),
        Mistake(
            "alpha without the rank",
            lambda w, down, up, alpha: w + alpha * up @ down,
            "You multiply by alpha alone. Divided by the rank (`len(down)`), a learning rate that suits one rank suits "
            "others too.",
        ),
        Mistake(
            "rank-stabilised",
            lambda w, down, up, alpha: w + alpha / len(down) ** 0.5 * up @ down,
            "You divide alpha by the root of the rank. That is rank-stabilised LoRA, a published variant "
            "(`use_rslora=True` in peft). The LoRA of this notebook divides by the rank itself: `alpha / r`.",
        ),
        Mistake(
            "the other way round",
            lambda w, down, up, alpha: w + alpha / len(down) * (up @ down).T,
            "The correction is transposed. An input goes through `down` first, and `weight` stands to the left of it: "
            "`up @ down`.",
        ),
        Mistake(
            "only the correction",
            lambda w, down, up, alpha: alpha / len(down) * up @ down,
            "That is the correction. The old weight has to be added to it.",
        ),
    ),
    hints=(
        "The layer gives `x @ weight.T`. What does the path through `down` and `up` give?",
        "The correction is `up @ down`, times `alpha / r`, and `r` is `len(down)`.",
    ),
    solution_code='''def merged_weight(weight, down, up, alpha):
    """weight (O, I), down (r, I), up (O, r) -> one weight (O, I)."""
    return weight + alpha / len(down) * up @ down''',
)


def gone_too_far() -> tuple:
    """Attacked images, the images themselves, and epsilon."""
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 3, 4, 4, generator=generator)
    return images + 0.4 * torch.randn(images.shape, generator=generator), images, 0.1


def dark_and_bright() -> tuple:
    """The same with images that are black or white, so that half of the changes lead out of the range."""
    attacked, images, epsilon = gone_too_far()
    return attacked - images + images.round(), images.round(), 2 * epsilon


q3 = Question(
    name="next_steps.q3",
    title="Bring it back",
    text="An attack has gone too far. Write `bring_back(attacked, images, epsilon)`: the nearest pictures whose pixels "
    "differ from `images` by `epsilon` at most, and lie between 0 and 1.",
    fills="bring_back",
    right=lambda attacked, images, epsilon: attacked.clamp(images - epsilon, images + epsilon).clamp(0, 1),
    observe=calls(("grey images", gone_too_far), ("black and white images", dark_and_bright)),
    praise="This is the projection of PGD, both parts of it.",
    mistakes=(
        Mistake(
            "the range alone",
            lambda attacked, images, epsilon: attacked.clamp(0, 1),
            "They are pictures again, and nothing keeps them near the original: epsilon is not used.",
        ),
        Mistake(
            "epsilon alone",
            lambda attacked, images, epsilon: attacked.clamp(images - epsilon, images + epsilon),
            "The change is small enough, but some pixels lie outside of 0 to 1: no picture has those values, and an "
            "attack that needs them is none.",
        ),
        Mistake(
            "the change in place of the picture",
            lambda attacked, images, epsilon: (attacked - images).clamp(-epsilon, epsilon),
            "You return the change. Add it to the images, then keep the sum between 0 and 1.",
        ),
        Mistake(
            "the picture limited to epsilon",
            lambda attacked, images, epsilon: attacked.clamp(-epsilon, epsilon),
            "You limit the pixels themselves to epsilon. Limit how far they are from `images`.",
        ),
        Mistake(
            "a sphere in place of a box",
            lambda attacked, images, epsilon: (
                images
                + (attacked - images)
                * (epsilon / (attacked - images).flatten(1).norm(dim=1).clamp(min=epsilon)).view(-1, 1, 1, 1)
            ).clamp(0, 1),
            "You shorten the change as a whole, to a length of epsilon. Here epsilon limits each pixel by itself, "
            "whatever the others do.",
        ),
    ),
    hints=(
        "Two limits, one after the other: near the image, then in the range.",
        "`tensor.clamp(low, high)` takes tensors as limits too.",
        "The first limits are `images - epsilon` and `images + epsilon`, the second 0 and 1.",
    ),
    solution_code='''def bring_back(attacked, images, epsilon):
    """Pixels within epsilon of images, and between 0 and 1."""
    near = attacked.clamp(images - epsilon, images + epsilon)
    return near.clamp(0, 1)''',
)


def traces(net: nn.Module) -> dict[str, list]:
    """All that an attack may change in a model, copied, by the words that name it."""
    parameters = list(net.parameters())
    return {
        "the gradients of the model's weights": [None if p.grad is None else p.grad.tolist() for p in parameters],
        "BatchNorm's statistics": [buffer.tolist() for buffer in net.buffers()],
        "the model's mode": [part.training for part in net.modules()],
        "the `requires_grad` of the weights": [parameter.requires_grad for parameter in parameters],
        "the model's weights": [parameter.tolist() for parameter in parameters],
    }


def watched_attack(attack) -> dict:
    """What an attack returns, and what it changes: in a model in training, and in a finished one, partly frozen."""
    seen = {}
    for training, case in ((True, "a model in training mode"), (False, "a model in evaluation mode")):
        generator = torch.Generator().manual_seed(5 + training)
        images, labels = torch.rand(8, 1, 6, 6, generator=generator), torch.randint(3, (8,), generator=generator)
        net = small_net().train(training)
        net.conv1.requires_grad_(training)
        if training:
            F.cross_entropy(net(images), labels).backward()
        before = traces(net)
        try:
            seen[f"What your attack returns for {case}"] = attack(net, images.clone(), labels, 0.2 if training else 0.1)
        except Exception as error:
            error.add_note(f"for {case}")
            raise
        for what, value in traces(net).items():
            seen[f"What became of {what}, for {case},"] = Finding("no change" if value == before[what] else "a change")
    return seen


def attack_like(
    *,
    evaluation=True,
    sign=1,
    use_sign=True,
    clip=True,
    backward=False,
    zero_grad=False,
    freeze=False,
    mode_after=lambda was: was,
):
    """An attack with one step, right but for what is given. mode_after: from the mode before to the one it leaves."""

    def attack(model, images, labels, epsilon):
        was = model.training
        if evaluation:
            model.eval()
        if freeze:
            model.requires_grad_(False)
        images = images.requires_grad_(True)
        loss = F.cross_entropy(model(images), labels)
        if backward:
            loss.backward()
            gradient = images.grad
        else:
            (gradient,) = torch.autograd.grad(loss, images)
        if zero_grad:
            model.zero_grad()
        if evaluation:
            model.train(mode_after(was))
        change = sign * epsilon * (gradient.sign() if use_sign else gradient)
        attacked = images.detach() + change
        return attacked.clamp(0, 1) if clip else attacked

    return attack


PUT_BACK = (
    "The model is left in evaluation mode: the next training steps would run with BatchNorm's old statistics. "
    "Write `was = model.training` first, and `model.train(was)` in the end."
)
WRONG_ATTACKS = {
    "the other direction": (
        dict(sign=-1),
        "You go down the gradient: these images are easier than before. An attack goes up, where the loss rises.",
    ),
    "the gradient without its sign": (
        dict(use_sign=False),
        "You add epsilon times the gradient, which is tiny. The sign makes every pixel go as far as it may.",
    ),
    "not clipped": (
        dict(clip=False),
        "Some pixels lie outside of 0 to 1, and no picture has those. Finish with `.clamp(0, 1)`.",
    ),
    "backward": (
        dict(backward=True),
        "The images are right. But `loss.backward()` has added to the gradients of the weights as well, and the next "
        "training step would take that along. (`zero_grad()` wipes out those that it needs.) "
        "`torch.autograd.grad(loss, images)` asks for one gradient alone.",
    ),
    "gradients wiped out": (
        dict(backward=True, zero_grad=True),
        "The images are right. But `zero_grad()` has wiped out the gradients that were there before, and the next "
        "training step needs them. `torch.autograd.grad(loss, images)` leaves them alone.",
    ),
    "parameters left frozen": (
        dict(freeze=True),
        "The images are right. But you leave every weight with `requires_grad=False`, and the next training step "
        "would teach nothing. `torch.autograd.grad(loss, images)` needs no freezing.",
    ),
}

q4 = Question(
    name="next_steps.q4",
    title="An attack that leaves no traces",
    text="Write `attack(model, images, labels, epsilon)`: FGSM on a model that takes pixels between 0 and 1. The model "
    "may come in the middle of its training: in training mode, with gradients at its weights, which the next step "
    "needs. It will be used in evaluation mode, so attack it there. Then give it back as it came: the same mode, "
    "weights, gradients and statistics of BatchNorm, and the same weights frozen.",
    fills="attack",
    right=lambda model, images, labels, epsilon: attacks.fgsm(model, images, labels, epsilon=epsilon),
    observe=watched_attack,
    praise="The attack is FGSM, and the training can go on as if nothing had happened. (Where some modules are frozen "
    "in evaluation mode, `course_utils.training.evaluation_mode` gives each its own mode back.)",
    mistakes=(
        Mistake(
            "training mode",
            attack_like(evaluation=False),
            "You attack in training mode. BatchNorm then normalises with the attacked batch itself, a network that "
            "nobody will use, and its statistics learn from your attack. Call `model.eval()` first.",
        ),
        Mistake(
            "backward in training mode",
            attack_like(evaluation=False, backward=True),
            "Two things: you attack in training mode (call `model.eval()` first), and `loss.backward()` leaves its "
            "gradients at the weights (`torch.autograd.grad(loss, images)` does not).",
        ),
        Mistake("left in evaluation mode", attack_like(mode_after=lambda was: False), PUT_BACK),
        Mistake(
            "always left in training mode",
            attack_like(mode_after=lambda was: True),
            "You leave the model in training mode, however it came. Write `was = model.training` first, and "
            "`model.train(was)` in the end.",
        ),
        *(Mistake(name, attack_like(**options), why) for name, (options, why) in WRONG_ATTACKS.items()),
        *(
            Mistake(
                f"{name}, in evaluation mode", attack_like(**options, mode_after=lambda was: False), f"{why} {PUT_BACK}"
            )
            for name, (options, why) in WRONG_ATTACKS.items()
        ),
    ),
    hints=(
        "Evaluation mode first. Then the loss, and its gradient for the images. In the end the mode from before.",
        "`images = images.detach().requires_grad_(True)` makes the images a place to ask for a gradient.",
        "`torch.autograd.grad(loss, images)[0]` is that gradient and touches nothing else. Its sign, times epsilon, is "
        "the step; then clip.",
    ),
    solution_code='''import torch
import torch.nn.functional as F


def attack(model, images, labels, epsilon):
    """Attacked images; images are pixels between 0 and 1."""
    was = model.training
    model.eval()
    images = images.detach().requires_grad_(True)
    loss = F.cross_entropy(model(images), labels)
    gradient = torch.autograd.grad(loss, images)[0]
    model.train(was)
    attacked = images + epsilon * gradient.sign()
    return attacked.clamp(0, 1).detach()''',
)

q5 = Question(
    name="next_steps.q5",
    title="Whose epsilon?",
    text="A paper's code adds at most 0.03 to images that are already normalised, with a standard deviation of 0.35. "
    "How large is its epsilon in 255ths of the range of a pixel? Two digits after the point will do.",
    fills="epsilon_255",
    kind="value",
    right=0.03 * 0.35 * 255,
    tolerance=2.2e-3,  # so that 2.67 is right, and 2.68
    praise="Less than 3/255, and not nearly 8/255. Its robust accuracy belongs beside those of a third of the epsilon.",
    mistakes=(
        Mistake(
            "pixels and inputs taken for the same",
            0.03 * 255,
            "That would be right for pixels. But 0.03 was added after the division by 0.35, so undo it: a pixel "
            "changed by 0.03 times 0.35.",
        ),
        Mistake(
            "divided in place of multiplied",
            0.03 / 0.35 * 255,
            "The wrong way round: normalising divides a change by 0.35, so going back multiplies by it.",
        ),
        Mistake("one digit", 2.7, "The way is right. Give two digits after the point."),
        Mistake(
            "not in 255ths", 0.03 * 0.35, "That is the change on the scale from 0 to 1. In 255ths it is 255 times that."
        ),
    ),
    hints=(
        "Normalised = (pixel - mean) / 0.35. By how much does the pixel change if the normalised value does by 0.03?",
        "The mean falls out of a difference. 0.03 * 0.35, and then on the scale of 0 to 255.",
    ),
    solution_code="epsilon_255 = 0.03 * 0.35 * 255",
)

QUESTIONS = (q1, q2, q3, q4, q5)
