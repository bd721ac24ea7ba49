"""Ways to fine-tune the pocket encoder, and the baseline without a network."""

from collections.abc import Sequence

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from threadpoolctl import threadpool_limits

from course_utils.device import seed_everything
from course_utils.models import freeze, unfreeze
from course_utils.recipes import tune
from course_utils.text.encoder import TextClassifier, build_text_classifier
from course_utils.text.tokens import text_loader
from course_utils.training import History

# The learning rates of (head, encoder). Of three or four tried for each recipe on the validation modules, with 20
# labels a class and three seeds, none was better by more than the spread; other label counts may want others.
TEXT_RATES = {
    "scratch": (1e-3, 1e-3),  # random weights, everything trains
    "probe": (3e-2, 3e-2),  # pretrained weights, only the new head trains
    "full": (1e-3, 1e-3),  # pretrained weights, everything trains
    "gradual": (3e-3, 1e-3),  # the head first, then one layer more at a time, from the top down
}
# With "gradual", the share of the training after which a part thaws.
TEXT_THAW_AT = {"encoder.layers.1": 0.2, "encoder.layers.0": 0.4, "encoder": 0.6}


def fine_tune_text(
    recipe: str,
    encoded: dict[str, torch.Tensor],
    labels: torch.Tensor,
    *,
    num_classes: int,
    seed: int,
    device: torch.device | str,
    steps: int = 60,
    batch_size: int = 32,
    rates: tuple[float, float] | None = None,
    warm_up: float = 0.1,
    pooling: str = "mean",
    **fit_options,
) -> tuple[TextClassifier, History]:
    """Build the pocket encoder with a new head and train it by a recipe; `steps` is rounded to whole epochs.

    encoded: what `encode` gives. AdamW with weight decay 0.01; the rate rises over the first `warm_up` of the steps
    and falls to nearly 0 along a cosine. rates: (head, encoder) instead of the recipe's own. fit_options: see
    `training.fit`. Raises ValueError for an unknown recipe.
    """
    if recipe not in TEXT_RATES:
        raise ValueError(f"Unknown recipe {recipe!r}. There are: {', '.join(TEXT_RATES)}.")
    seed_everything(seed)
    weights = None if recipe == "scratch" else "DEFAULT"
    model = build_text_classifier(num_classes, weights=weights, pooling=pooling).to(device)
    if recipe in ("probe", "gradual"):
        freeze(model, "encoder")
    loader = text_loader(encoded, labels, batch_size=min(batch_size, len(labels)), shuffle=True, seed=seed)
    epochs = max(1, round(steps / len(loader)))

    def thaw(epoch: int) -> None:
        if recipe == "gradual":
            unfreeze(model, [part for part, share in TEXT_THAW_AT.items() if epoch >= min(share * epochs, epochs - 1)])

    options = dict(rates=rates or TEXT_RATES[recipe], epochs=epochs, device=device, warm_up=warm_up, before_epoch=thaw)
    return model, tune(model, loader, **options, **fit_options)


def fit_baseline(texts: Sequence[str], labels: torch.Tensor) -> Pipeline:
    """TF-IDF with logistic regression: a text is the bag of its words, each word weighs more the rarer it is.

    Returns a fitted pipeline of scikit-learn; `score(texts, labels)` gives its accuracy. Of C = 0.1, 1, 10 and 100 none
    is better by more than the spread, on the validation modules, with 5, 20 or 80 labels a class and three seeds.
    """
    baseline = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10, max_iter=1000))
    with threadpool_limits(1):  # more threads wait for each other (measured: 9 s, in place of 0.3)
        return baseline.fit(texts, labels.numpy())
