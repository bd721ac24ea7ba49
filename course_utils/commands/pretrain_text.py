"""Remake the weights of the pocket encoder: guess masked words in the standard library's docstrings."""

import argparse
import hashlib
import io
import platform
import time
from pathlib import Path

import torch
import torch.nn as nn

from course_utils.device import use_cpu_threads
from course_utils.files import write_atomically
from course_utils.text.corpus import load_subjects
from course_utils.text.encoder import (
    TEXT_SHA256,
    TEXT_TOKENIZER,
    TEXT_WEIGHTS,
    MaskedLanguageModel,
    load_language_model,
    load_tokenizer,
)
from course_utils.text.tokens import MASKED_SHARE, pieces, text_loader, train_tokenizer
from course_utils.training import History, accuracy, fit

BATCH_SIZE = 64
LEARNING_RATE = 2e-3  # the highest: OneCycleLR climbs to it, then comes down to nearly zero
WARM_UP = 0.1  # the share of the steps in which it climbs
WEIGHT_DECAY = 0.01
VOCAB_SIZE = 4000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m course_utils pretrain_text`."""
    parser.add_argument("--epochs", type=int, default=14, help="rounds through the texts (default: 14)")
    parser.add_argument("--texts", type=int, metavar="N", help="the first N texts alone, for a short look")
    parser.add_argument(
        "--new-tokenizer",
        action="store_true",
        help="learn the tokens anew too; the library numbers them differently each time, so no two weights are alike",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, other weights (default: 0)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/pretrain_text"), metavar="DIR", help="where to (default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite the files if they are there")


def run(args: argparse.Namespace) -> int:
    """Train the network, and the tokeniser where that is asked for; save both, read the weights back and report.

    Before any work it raises ValueError for an impossible option, FileExistsError for a file that is there.
    """
    if args.epochs < 1 or not 0 <= args.seed < 2**32 or (args.texts is not None and args.texts < 1):
        raise ValueError("--epochs and --texts take 1 or more, --seed 0 to 2**32 - 1.")
    weights, vocabulary = args.out / TEXT_WEIGHTS.name, args.out / TEXT_TOKENIZER.name
    for path in (weights, vocabulary):
        if path.exists() and not args.force:
            raise FileExistsError(f"{path.name} is there already. Name another folder, or overwrite with --force.")
    use_cpu_threads()
    texts = load_subjects().unlabelled[: args.texts]
    tokenizer = train_tokenizer(texts, VOCAB_SIZE) if args.new_tokenizer else load_tokenizer()
    write_atomically(vocabulary, tokenizer.to_str().encode("utf-8"))
    start = time.process_time()
    model, history = pretrain(pieces(tokenizer, texts), tokenizer.get_vocab_size(), epochs=args.epochs, seed=args.seed)
    write_atomically(weights, checkpoint_bytes(model, args.epochs, args.seed, len(texts)))
    load_language_model(weights, sha256=None)  # what cannot be read back is not worth reporting
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    print(f"files               {weights.name} ({weights.stat().st_size:,} bytes), {vocabulary.name}")
    print(f"SHA-256             {sha256}")
    print(f"                    {hashlib.sha256(vocabulary.read_bytes()).hexdigest()}")
    print(f"as the course ships {'yes' if sha256 == TEXT_SHA256 else 'no (another Python, torch or option)'}")
    print(f"training            {time.process_time() - start:.0f} s of a processor's time")
    print(
        f"last epoch          loss {history['train_loss'][-1]:.3f}, {history['train_accuracy'][-1]:.1%} of the masked"
    )
    return 0


def pretrain(
    encoded: dict[str, torch.Tensor], vocab_size: int, *, epochs: int, seed: int, **fit_options
) -> tuple[MaskedLanguageModel, History]:
    """Train a new `MaskedLanguageModel` on what `pieces` gives. Same seed, same numbers. fit_options: see `fit`."""
    torch.manual_seed(seed)
    model = MaskedLanguageModel(vocab_size)
    loader = text_loader(encoded, None, batch_size=BATCH_SIZE, shuffle=True, seed=seed, vocab_size=vocab_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=epochs * len(loader), pct_start=WARM_UP, cycle_momentum=False
    )
    history = fit(
        model,
        loader,
        None,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        scheduler=scheduler,
        epochs=epochs,
        metrics={"accuracy": accuracy},
        **{"device": torch.device("cpu"), **fit_options},
    )
    return model, history


def checkpoint_bytes(model: MaskedLanguageModel, epochs: int, seed: int, texts: int) -> bytes:
    """The network as the bytes of a file that `load_language_model` reads: float16, without time, path or machine."""
    checkpoint = {
        "state_dict": {name: tensor.half() for name, tensor in model.state_dict().items()},
        "recipe": {
            "data": f"{texts} docstrings of the standard library, none of a validation or test module",
            "task": f"masked words, {MASKED_SHARE:.0%}",
            "optimizer": "AdamW",
            "schedule": "OneCycleLR",
            "learning_rate": LEARNING_RATE,
            "warm_up": WARM_UP,
            "weight_decay": WEIGHT_DECAY,
            "batch_size": BATCH_SIZE,
            "epochs": epochs,
            "seed": seed,
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
        },
    }
    buffer = io.BytesIO()  # not straight to the file: torch.save would write the file's name into it
    torch.save(checkpoint, buffer)
    return buffer.getvalue()
