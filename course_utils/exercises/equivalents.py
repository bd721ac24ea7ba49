"""Changes of a solution that leave it right: `make mutants` knows them, and a test that they are changes of today's.

{question: {the lines that differ, as the tool prints them: why the answer is still right}}
"""

FEWER_DIGITS = "the answer is asked for with fewer digits than this changes"

EQUIVALENTS: dict[str, dict[str, str]] = {
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
