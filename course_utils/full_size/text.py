"""The text experiment at full size: BERT or DistilBERT, through `transformers`, on the film reviews of SST-2."""

import csv
import io
import zipfile
from pathlib import Path

import torch
import torch.nn as nn
from tokenizers import Tokenizer

from course_utils.data import Split
from course_utils.text.corpus import LabelledTexts


class SequenceClassifier(nn.Module):
    """A classifier of `transformers` that gives its logits alone, (B, K), as `fit` and its metrics want them."""

    head_name = "model.classifier"  # DistilBERT's and BERT's name of the last layer

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def build_sequence_classifier(name: str, num_classes: int) -> tuple[SequenceClassifier, Tokenizer]:
    """A pretrained encoder with a new head, and its tokeniser, which `text.tokens.encode` takes.

    name: a folder that holds a model ("../data/bert-base-uncased", made by `prepare --only bert-base-uncased`), or the
        name of one on the Hugging Face hub ("distilbert-base-uncased"), which `transformers` downloads once.
    Raises ModuleNotFoundError without `transformers`, ConnectionError where the model cannot be had.
    """
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'The full size needs transformers. Install it with: python -m pip install -e ".[text]"'
        ) from error
    try:
        model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=num_classes)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:  # transformers raises either, for a folder without a model too
        raise ConnectionError(
            f"{Path(name).name} could not be had: there is no such folder, and the hub could not be reached or has no "
            "such model. Fetch BERT with: python -m course_utils prepare --only bert-base-uncased"
        ) from error
    return SequenceClassifier(model), tokenizer.backend_tokenizer


def load_sst2(archive: Path | str) -> LabelledTexts:
    """SST-2 from SST-2.zip as GLUE deals it out: sentences with the labels 0 and 1. Nothing is downloaded here.

    Test are the 872 sentences of dev.tsv, since the labels of GLUE's own test part are not public. Validation is a
    twentieth of train.tsv, drawn at random with seed 0: many rows there are phrases of one another, so that its score
    is too high, good for comparing settings alone.
    Raises FileNotFoundError where the archive is missing, ValueError where it is damaged or holds something else.
    Source: Socher et al., Recursive Deep Models for Semantic Compositionality, EMNLP 2013; Wang et al., GLUE, 2019.
    """
    archive = Path(archive)
    if not archive.is_file():
        raise FileNotFoundError(
            f"There is no {archive.name}. Fetch it with: python -m course_utils prepare --only sst2"
        )
    try:
        with zipfile.ZipFile(archive) as file:
            train, test = (_rows(file.read(f"SST-2/{name}.tsv")) for name in ("train", "dev"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(
            f"{archive.name} is damaged or not GLUE's ({error}). Delete it, then: "
            "python -m course_utils prepare --only sst2"
        ) from error
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    for_val = max(1, len(train) // 20)
    return LabelledTexts(
        texts=[sentence for sentence, _ in (*train, *test)],
        labels=torch.tensor([label for _, label in (*train, *test)]),
        modules=["SST-2"] * (len(train) + len(test)),
        class_names=("negative", "positive"),
        split=Split(order[for_val:], order[:for_val], len(train) + torch.arange(len(test))),
        unlabelled=[],
    )


def _rows(content: bytes) -> list[tuple[str, int]]:
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8")), delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or set(rows[0]) != {"sentence", "label"} or {row["label"] for row in rows} - {"0", "1"}:
        raise ValueError("a table needs the columns sentence and label, and labels 0 and 1")
    return [(row["sentence"].strip(), int(row["label"])) for row in rows]
