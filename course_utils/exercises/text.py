"""The exercises of notebook 06: the first loss, pooling over padding, targets of masked words, cut ends, a warm-up."""

import math

import torch

from course_utils.exercises.question import Finding, Mistake, Question, calls

q1 = Question(
    name="text.q1",
    title="The first loss of a masked language model",
    text="A new masked language model has a vocabulary of 8,000 tokens and knows nothing yet: all tokens are equally "
    "likely to it. What is its cross-entropy, to two decimals, on the masked places? PyTorch's loss is meant.",
    fills="first_loss",
    kind="value",
    right=math.log(8000),
    tolerance=1e-3,
    praise="An even guess among V tokens costs log V. A first loss far from that tells of a fault before any training.",
    mistakes=(
        Mistake(
            "logarithm to base 2",
            math.log2(8000),
            "That is the loss in bits. PyTorch takes the natural logarithm: `math.log`.",
        ),
        Mistake(
            "logarithm to base 10",
            math.log10(8000),
            "That is the logarithm to base 10. PyTorch takes the natural one: `math.log`.",
        ),
        Mistake(
            "the masked share in it",
            0.15 * math.log(8000),
            "You have multiplied by the share of masked words. The loss is a mean over the masked places alone, so "
            "how many there are does not matter.",
        ),
        Mistake(
            "the probability",
            1 / 8000,
            "That is the probability of the right token. The cross-entropy is minus its logarithm.",
        ),
    ),
    hints=(
        "What probability does the right token get?",
        "The loss is $-\\log p$, with p = 1/8000.",
    ),
    solution_code="""import math

first_loss = math.log(8000)""",
)


def hidden_states() -> tuple[torch.Tensor, torch.Tensor]:
    """(2, 5, 3) and its mask: a text of five tokens and one of two."""
    hidden = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)) + 1
    return hidden, torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


def more_hidden_states() -> tuple[torch.Tensor, torch.Tensor]:
    """(3, 4, 2) and its mask: texts of one, four and three tokens."""
    hidden = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(1)) - 1
    return hidden, torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]])


def padded_on_the_left() -> tuple[torch.Tensor, torch.Tensor]:
    """(2, 3, 2) and its mask: texts of two and three tokens, padded in front, as for a model that writes on."""
    hidden = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(2))
    return hidden, torch.tensor([[0, 1, 1], [1, 1, 1]])


def masked_mean(hidden, attention_mask):
    return (hidden * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True)


q2 = Question(
    name="text.q2",
    title="A mean without the padding",
    text="Write `pool(hidden, attention_mask)`: the mean vector of each text over its real tokens. `hidden` has the "
    "shape `(B, T, d)`, `attention_mask` `(B, T)` with 1 at tokens and 0 at padding; the result is `(B, d)`.",
    fills="pool",
    right=masked_mean,
    observe=calls(
        ("texts of five and of two tokens", hidden_states),
        ("texts of one, four and three tokens", more_hidden_states),
        ("texts of two and three tokens, padded on the left", padded_on_the_left),
    ),
    praise="Each text is divided by its own length, so padding changes nothing.",
    mistakes=(
        Mistake(
            "padding in the mean",
            lambda hidden, attention_mask: hidden.mean(1),
            "You take the mean over all places, padding too. So a short text in a batch with a long one becomes mostly "
            "padding, and its answer depends on its neighbours.",
        ),
        Mistake(
            "divided by the length of the batch",
            lambda hidden, attention_mask: (hidden * attention_mask[..., None]).mean(1),
            "The padding is set to zero, and you still divide by T. Divide by the number of real tokens of each text.",
        ),
        Mistake(
            "the sum",
            lambda hidden, attention_mask: (hidden * attention_mask[..., None]).sum(1),
            "That is the sum over the real tokens: long texts get long vectors. Divide by their number.",
        ),
        Mistake(
            "the first token",
            lambda hidden, attention_mask: hidden[:, 0],
            "That is the vector of the first token, BERT's way. Here the mean over the tokens is wanted.",
        ),
        Mistake(
            "the first places",
            lambda hidden, attention_mask: torch.stack(
                [vectors[:count].mean(0) for vectors, count in zip(hidden, attention_mask.sum(1), strict=True)]
            ),
            "You take the first places of each text, as many as it has tokens. Where the padding stands on the left, "
            "as for models that write on, these are not its tokens. The mask says which are.",
        ),
        Mistake(
            "one length for all",
            lambda hidden, attention_mask: (hidden * attention_mask[..., None]).sum(1) / attention_mask.sum(),
            "You divide by the number of tokens of the whole batch. Each text has its own: `attention_mask.sum(1)`.",
        ),
    ),
    hints=(
        "Multiply first, so that padding counts as zero; then divide by what is left.",
        "`attention_mask[..., None]` has the shape `(B, T, 1)`, and multiplies all of a token's d numbers.",
        "The numbers of tokens as a column: `attention_mask.sum(1, keepdim=True)`.",
    ),
    solution_code='''def pool(hidden, attention_mask):
    """Mean over the real tokens: (B, T, d) and (B, T) -> (B, d)."""
    total = (hidden * attention_mask[..., None]).sum(1)
    return total / attention_mask.sum(1, keepdim=True)''',
)


def masked_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers (2, 6), the second row padded, and which are asked for."""
    input_ids = torch.tensor([[2, 57, 310, 44, 918, 3], [2, 77, 3, 0, 0, 0]])
    chosen = torch.tensor([[0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0]]).bool()
    return input_ids, chosen


def unmasked_text() -> tuple[torch.Tensor, torch.Tensor]:
    """Three tokens between [CLS] and [SEP], (1, 5), of which two are asked for."""
    return torch.tensor([[2, 9, 640, 12, 3]]), torch.tensor([[False, True, False, True, False]])


def targets_and_inputs(make_targets):
    """The targets, their type, and whether the inputs are still what they were; for two batches."""
    seen = {}
    for label, make in (("for two texts, one of them padded", masked_batch), ("for one text", unmasked_text)):
        inputs = make()
        try:
            targets = make_targets(*inputs)
        except Exception as error:
            error.add_note(label)
            raise
        names = "`input_ids`", "`chosen`"
        changed = [name for name, one, other in zip(names, inputs, make(), strict=True) if not torch.equal(one, other)]
        kind = str(getattr(targets, "dtype", torch.int64)).removeprefix("torch.")
        seen[f"What your function returns {label}"] = targets
        seen[f"The type of your targets {label}"] = Finding(kind)
        seen[f"What is left of the inputs {label}"] = Finding(f"changed in {changed[0]}" if changed else "as it was")
    return seen


q3 = Question(
    name="text.q3",
    title="What the loss is to look at",
    text="Write `make_targets(input_ids, chosen)` for pretraining with `nn.CrossEntropyLoss()`: `input_ids` `(B, T)` "
    "are the tokens before masking, `chosen` `(B, T)` is True where the model has to guess. Return targets `(B, T)` "
    "such that the loss counts these places and no others. Change neither input.",
    fills="make_targets",
    right=lambda input_ids, chosen: torch.where(chosen, input_ids, -100),
    observe=targets_and_inputs,
    praise="-100 is the `ignore_index` of PyTorch's cross-entropy, so neither padding nor words in plain sight count.",
    mistakes=(
        Mistake(
            "all tokens",
            lambda input_ids, chosen: input_ids.clone(),
            "All tokens are targets. The model then learns to copy what it sees, and to recognise padding: the loss "
            "falls fast, and little is learnt about words.",
        ),
        Mistake(
            "zero in place of -100",
            lambda input_ids, chosen: torch.where(chosen, input_ids, 0),
            "Where nothing is asked, the target is 0: that is the number of [PAD], a class like any other. The model "
            "learns to answer [PAD] nearly everywhere. Places that the loss must leave out are marked -100.",
        ),
        Mistake(
            "the wrong way round",
            lambda input_ids, chosen: torch.where(chosen, -100, input_ids),
            "You leave out just what is asked for, and count the rest. Exchange the two.",
        ),
        Mistake(
            "padding left out, all else counted",
            lambda input_ids, chosen: torch.where(input_ids > 0, input_ids, -100),
            "Padding is left out, which is right; words in plain sight still count, and copying them is no task. "
            "Count the chosen places alone.",
        ),
        Mistake(
            "written into the input",
            lambda input_ids, chosen: input_ids.masked_fill_(~chosen, -100),
            "The targets are right, but you have written them into `input_ids`, and the caller's tokens are lost. "
            "`clone()` them first, or use `torch.where`, which makes a new tensor.",
        ),
        Mistake(
            "fractions",
            lambda input_ids, chosen: torch.where(chosen, input_ids, -100.0),
            "The values are right and the type is not: your targets are fractions, and cross-entropy takes class "
            "numbers as whole numbers, int64. Write `-100`, without a point.",
        ),
        Mistake(
            "the chosen tokens as one list",
            lambda input_ids, chosen: input_ids[chosen],
            "You return the tokens asked for as one list, which is how the course's own loader does it, to save time; "
            "here the shape `(B, T)` is wanted, with a mark at all other places.",
        ),
    ),
    hints=(
        "`nn.CrossEntropyLoss` leaves out the targets that equal its `ignore_index`. What is its default?",
        "`torch.where(condition, a, b)` takes a where the condition holds, and b elsewhere.",
    ),
    solution_code='''import torch


def make_targets(input_ids, chosen):
    """Targets (B, T) for cross-entropy: the token where it is asked for, -100 elsewhere."""
    return torch.where(chosen, input_ids, -100)''',
)


def share_lost(lengths, max_length):
    kept = [min(length, max_length - 2) for length in lengths]
    return 1 - sum(kept) / sum(lengths)


q4 = Question(
    name="text.q4",
    title="What truncation throws away",
    text="Write `share_cut(lengths, max_length)`: which share of all tokens is lost when texts are cut at the end? "
    "`lengths` is a list with the number of tokens of each text, without [CLS] and [SEP]; these two are added to each "
    "text and count towards `max_length`.",
    fills="share_cut",
    right=share_lost,
    observe=calls(
        ("texts of 10, 30 and 100 tokens and a limit of 32", lambda: ([10, 30, 100], 32)),
        ("texts of 5 and 6 tokens and a limit of 64", lambda: ([5, 6], 64)),
        ("texts of 63, 64 and 65 tokens and a limit of 64", lambda: ([63, 64, 65], 64)),
    ),
    praise="Look at this number before every training: a limit is chosen from the data, not from habit.",
    mistakes=(
        Mistake(
            "[CLS] and [SEP] forgotten",
            lambda lengths, limit: 1 - sum(min(length, limit) for length in lengths) / sum(lengths),
            "You forgot that [CLS] and [SEP] take two of the places: {got} in place of {want}. Of a text, "
            "`max_length - 2` tokens stay.",
        ),
        Mistake(
            "the share of texts",
            lambda lengths, limit: sum(length > limit - 2 for length in lengths) / len(lengths),
            "{got} is the share of *texts* that lose something. The share of *tokens* is wanted: {want}.",
        ),
        Mistake(
            "the share that stays",
            lambda lengths, limit: 1 - share_lost(lengths, limit),
            "{got} is the share that stays. What is lost is the rest.",
        ),
        Mistake(
            "a mean of shares",
            lambda lengths, limit: sum(share_lost([length], limit) for length in lengths) / len(lengths),
            "You take the mean of each text's own share, so that a short text weighs as much as a long one. Count the "
            "tokens over all texts, and divide once.",
        ),
        Mistake(
            "[CLS] and [SEP] counted as tokens of the text",
            lambda lengths, limit: (
                1 - sum(min(length + 2, limit) for length in lengths) / sum(length + 2 for length in lengths)
            ),
            "You count [CLS] and [SEP] among the tokens of the texts: {got} in place of {want}. `lengths` is without "
            "them, and no cut takes them away. Divide by `sum(lengths)`.",
        ),
    ),
    hints=(
        "Of one text, `min(length, max_length - 2)` tokens stay.",
        "Add up what stays over all texts, and divide once by the sum of the lengths.",
    ),
    solution_code='''def share_cut(lengths, max_length):
    """The share of tokens lost, 0 to 1; lengths without [CLS] and [SEP]."""
    kept = sum(min(length, max_length - 2) for length in lengths)
    return 1 - kept / sum(lengths)''',
)


def warming_up(fall, *, first: int = 1):
    """A schedule that has made `first` steps of its climb at step 0; then fall(step, total, warm_up) of the peak."""
    return lambda step, total, warm_up, peak: (
        peak * ((step + first) / warm_up if step < warm_up else fall(step, total, warm_up))
    )


def straight(step, total, warm_up):
    return (total - step) / (total - warm_up)


def whole_schedule(function):
    """The rates of all steps, for three schedules."""
    seen = {}
    for total, warm_up, peak in ((10, 4, 0.001), (6, 0, 0.5), (3, 1, 2.0)):
        label = f"{total} steps with a warm-up of {warm_up}"
        try:
            rates = [function(step, total, warm_up, peak) for step in range(total)]
            rates = [rate.item() if hasattr(rate, "item") else rate for rate in rates]
        except Exception as error:
            error.add_note(f"for {label}")
            raise
        odd = [rate for rate in rates if not isinstance(rate, int | float) or isinstance(rate, bool)]
        seen[f"What your function returns for {label}, step by step and divided by `peak`,"] = (
            odd[0] if odd else torch.tensor(rates, dtype=torch.double) / peak
        )
    return seen


WRONG_FALLS = {
    "it does not fall": (
        lambda step, total, warm_up: 1,
        "Your learning rate climbs and then stays at the peak. It is to fall to 0 at step `total`.",
    ),
    "the fall from the beginning": (
        lambda step, total, warm_up: (total - step) / total,
        "You count the fall from step 0, so the learning rate jumps down where the warm-up ends. BERT's own code does "
        "that. Here the fall begins at `warm_up`, from the peak, and has `total - warm_up` steps.",
    ),
    "0 one step too early": (
        lambda step, total, warm_up: (total - 1 - step) / (total - 1 - warm_up),
        "Your learning rate is 0 at the last step that is taken, `total - 1`: that batch is computed and teaches "
        "nothing. It reaches 0 at step `total`, after the last one.",
    ),
}

q5 = Question(
    name="text.q5",
    title="A linear warm-up and decay",
    text="Write `rate(step, total, warm_up, peak)`. Over the first `warm_up` steps the learning rate climbs in a "
    "straight line: `peak / warm_up` at step 0 and `peak` at step `warm_up - 1`. (One step later is right too: 0 at "
    "step 0 and `peak` at step `warm_up`, as in Hugging Face's `get_linear_schedule_with_warmup`.) From step `warm_up` "
    "on it falls in a straight line: `peak` there, and 0 at step `total`, which is not taken. A warm-up of 0 is "
    "allowed.",
    fills="rate",
    right=warming_up(straight),
    also_right=(warming_up(straight, first=0),),
    observe=whole_schedule,
    praise="None is above the peak, and without a warm-up nothing is divided by zero. Hugging Face's is a step later: "
    "at step 0 it is 0, and the first batch teaches nothing. BERT's own code climbs like that, and counts the fall "
    "from step 0, so it jumps down where the warm-up ends.",
    mistakes=(
        *(
            Mistake(f"{name}, after {first} at step 0", warming_up(fall, first=first), why)
            for name, (fall, why) in WRONG_FALLS.items()
            for first in (1, 0)
        ),
        Mistake(
            "no warm-up",
            lambda step, total, warm_up, peak: peak * (total - step) / total,
            "Your learning rate is highest at step 0, where the head is random and its gradients are largest. Let it "
            "climb first.",
        ),
    ),
    hints=(
        "Two cases: `step < warm_up`, and the rest.",
        "The climb: `peak * (step + 1) / warm_up`, or with `step`. The fall has `total - warm_up` steps.",
    ),
    solution_code='''def rate(step, total, warm_up, peak):
    """The learning rate at a step, from 0 to total - 1."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * (total - step) / (total - warm_up)''',
)

QUESTIONS = (q1, q2, q3, q4, q5)
