"""Changes of a solution that leave it right: `make mutants` knows them, and a test that they are changes of today's.

{question: {the lines that differ, as the tool prints them: why the answer is still right}}
"""

FEWER_DIGITS = "the answer is asked for with fewer digits than this changes"

OTHER_PATIENTS = "two or four patients in place of three are in the test set, still 20 to 50 % of the images"
ROUNDING = "Wilson's interval lies between 0 and 1 by itself, but for rounding"
SCALE = "every value is divided by the same positive number, which moves no minimum"

EQUIVALENTS: dict[str, dict[str, str]] = {
    "loss.q3": {
        "line 5: p = torch.softmax(logits, dim=0) -> p = torch.softmax(logits, dim=-1)": (
            "logits of shape (K,) have one dimension, the first and the last"
        ),
    },
    "loss.q5": {
        "line 5: return F.cross_entropy(logits, labels[:, 0].long()) -> "
        "return F.cross_entropy(logits, labels[:, -1].long())": "labels of shape (N, 1) have one column",
    },
    "cnn.q1": {
        "line 6: in_test = torch.isin(patients, known[:(len(known) + 2) // 3]) -> "
        f"in_test = torch.isin(patients, known[:{count}])": OTHER_PATIENTS
        for count in (
            "(len(known) + 2) // 4",
            "(len(known) - 2) // 3",
            "(len(known) + 3) // 3",
            "(len(known) + 1) // 3",
        )
    },
    "cnn.q5": {
        "line 7: return torch.optim.AdamW([{'params': head, 'lr': 0.01}, {'params': rest, 'lr': 0.001}]) -> "
        "return torch.optim.AdamW([{'params': head, 'lr': 0.01}, {'params': rest, 'lr_': 0.001}])": (
            "0.001 is AdamW's own learning rate, where a group names none"
        ),
    },
    "own_pictures.q2": {
        f"line 7: return (max(0, middle - half), min(1, middle + half)) -> return {ends}": ROUNDING
        for ends in (
            "(max(-1, middle - half), min(1, middle + half))",
            "(max(0, middle - half), min(2, middle + half))",
        )
    },
    "logging_traps.q3": {
        "line 6: values.append((total - weight * before) / (1 - weight)) -> "
        f"values.append((total - weight * before) {scale})": SCALE
        for scale in ("* (1 - weight)", "/ (2 - weight)", "/ (1 + weight)")
    },
    "text.q1": {
        "line 2: first_loss = math.log(8000) -> first_loss = math.log(8001)": FEWER_DIGITS,
        "line 2: first_loss = math.log(8000) -> first_loss = math.log(7999)": FEWER_DIGITS,
    },
    "text.q5": {
        "line 4: return peak * (step + 1) / warm_up -> return peak * (step + 0) / warm_up": (
            "Hugging Face's schedule, which the text allows"
        ),
    },
    "next_steps.q4": {
        "line 10: gradient = torch.autograd.grad(loss, images)[0] -> "
        "gradient = torch.autograd.grad(loss, images)[-1]": "one tensor has one gradient, the first and the last",
        "line 12: attacked = images + epsilon * gradient.sign() -> attacked = images + epsilon / gradient.sign()": (
            "a sign is 1 or -1 where no gradient is exactly 0: to multiply and to divide is the same"
        ),
    },
    "federated.q1": {
        f"line 1: megabytes = 308826 * 4 * 2 * 10 * 20 / 1000000.0 -> "
        f"megabytes = {count} * 4 * 2 * 10 * 20 / 1000000.0": FEWER_DIGITS
        for count in (308825, 308827)
    },
    "federated.q5": {
        "line 1: noise_norm = 307386 ** 0.5 / 10 -> noise_norm = 307387 ** 0.5 / 10": FEWER_DIGITS,
        "line 1: noise_norm = 307386 ** 0.5 / 10 -> noise_norm = 307385 ** 0.5 / 10": FEWER_DIGITS,
    },
}
