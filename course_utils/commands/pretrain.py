"""Remake the pocket weights from nothing: teach TinyResNet to read printed letters."""

import argparse
import hashlib
import io
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from course_utils.files import write_atomically
from course_utils.letters import IMAGE_SIZE, LETTERS, TRAINING_FONTS, UNSEEN_FONTS, LetterBank
from course_utils.pocket import POCKET_SHA256, InputSpec, TinyResNet, load_pocket_checkpoint

BATCH_SIZE = 128
LEARNING_RATE = 4e-3  # the highest: OneCycleLR climbs to it, then comes down to nearly zero
WARM_UP = 0.2  # the share of the steps in which it climbs
WEIGHT_DECAY = 0.02
FEWEST_STEPS = 10  # fewer, and OneCycleLR has no step left to climb in
INPUT = InputSpec(mean=(0.35,) * 3, std=(0.35,) * 3, size=IMAGE_SIZE)  # roughly the pictures' own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m course_utils pretrain`."""
    parser.add_argument("--steps", type=int, default=1500, help="batches; 40 is a short look (default: 1500)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other weights (default: 0)")
    parser.add_argument("--threads", type=int, default=2, help="processor threads for torch (default: 2)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/pretrain/tiny_resnet_letters37.pt"),
        metavar="FILE",
        help="where the weights go (default: runs/pretrain/tiny_resnet_letters37.pt)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite the file if it is there")
    parser.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="FILE.png",
        help="draw what the network is shown, and train nothing",
    )


def run(args: argparse.Namespace) -> int:
    """Pretrain, save, read the file back and measure it.

    Before any work it raises ValueError for an impossible option, FileExistsError for a file that is there.
    """
    if args.steps < FEWEST_STEPS or args.threads < 1 or not 0 <= args.seed < 2**32:
        raise ValueError(f"--steps takes {FEWEST_STEPS} or more, --threads 1 or more, --seed 0 to 2**32 - 1.")
    target = args.contact_sheet or args.out
    if target.is_dir():
        raise ValueError(f"{target} is a folder. Name a file.")
    if target.exists() and not args.force:
        raise FileExistsError(f"{target} is there already. Name another file, or overwrite it with --force.")
    target.parent.mkdir(parents=True, exist_ok=True)  # now: minutes later, a failure would cost the weights
    torch.set_num_threads(args.threads)

    if args.contact_sheet:
        write_atomically(target, contact_sheet(args.seed))
        print(f"Drew {target}: letters as the network is shown them. Nothing was trained.")
        return 0
    start = time.perf_counter()
    model, _ = pretrain(args.steps, args.seed)
    seconds = time.perf_counter() - start
    write_atomically(target, checkpoint_bytes(model, args.steps, args.seed))
    report(target, seconds)
    return 0


def pretrain(steps: int, seed: int) -> tuple[TinyResNet, list[tuple[float, float]]]:
    """Train a new `TinyResNet` for `steps` batches of fresh letters.

    Gives the network and the (loss, accuracy) of every batch, taken before the step that the batch causes. No
    picture comes twice, so both are measured on pictures new to the network. Same seed, same numbers.
    """
    torch.manual_seed(seed)  # the initial weights
    generator = torch.Generator().manual_seed(seed)  # the letters
    bank = LetterBank(TRAINING_FONTS)
    model = TinyResNet(len(LETTERS)).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=LEARNING_RATE, total_steps=steps, pct_start=WARM_UP
    )
    history = []
    progress = tqdm(range(steps), desc="pretraining", unit="batch", mininterval=0.5)
    for _ in progress:
        images, labels = bank.draw(BATCH_SIZE, generator)
        logits = model(INPUT(images).contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        accuracy = (logits.argmax(1) == labels).float().mean()
        history.append((loss.item(), accuracy.item()))
        progress.set_postfix(loss=f"{loss:.2f}", accuracy=f"{accuracy:.0%}", refresh=False)
    return model, history


@torch.no_grad()
def letter_accuracy(model: nn.Module, fonts: tuple[str, ...], count: int = 2048, seed: int = 99) -> float:
    """Share of `count` fresh letters in these fonts that the network names right, between 0 and 1."""
    model.eval()
    images, labels = LetterBank(fonts).draw(count, torch.Generator().manual_seed(seed))
    predicted = torch.cat([model(INPUT(batch)).argmax(1) for batch in images.split(256)])
    return (predicted == labels).float().mean().item()


def checkpoint_bytes(model: TinyResNet, steps: int, seed: int) -> bytes:
    """The network as the bytes of a file that `load_pocket_checkpoint` reads: half the size, in float16.

    It holds no time, path or machine name, so that the same training gives the same bytes. The number of
    threads belongs to the recipe: with another, sums are taken in another order, and the last digits move.
    """
    weights = {
        name: tensor.half().contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    checkpoint = {
        "state_dict": weights,
        "classes": list(LETTERS),
        "mean": list(INPUT.mean),
        "std": list(INPUT.std),
        "size": INPUT.size,
        "recipe": {
            "data": f"printed letters in {len(TRAINING_FONTS)} fonts, drawn at random; no digit",
            "optimizer": "AdamW",
            "schedule": "OneCycleLR",
            "learning_rate": LEARNING_RATE,
            "warm_up": WARM_UP,
            "weight_decay": WEIGHT_DECAY,
            "batch_size": BATCH_SIZE,
            "steps": steps,
            "seed": seed,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__.split("+")[0],
        },
    }
    buffer = io.BytesIO()  # not straight to the file: torch.save would write the file's name into it
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def report(path: Path, seconds: float) -> None:
    """Print what the file at `path` holds, as measured with the file read back."""
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    model = TinyResNet(len(LETTERS))
    model.load_state_dict(load_pocket_checkpoint(path, sha256=None)["state_dict"])
    seen, unseen = letter_accuracy(model, TRAINING_FONTS), letter_accuracy(model, UNSEEN_FONTS)
    same = "yes" if sha256 == POCKET_SHA256 else "no (another torch, processor or option makes other bytes)"
    print(f"file                {path} ({len(content):,} bytes)")
    print(f"SHA-256             {sha256}")
    print(f"as the course ships {same}")
    print(f"training            {seconds:.0f} s")
    print(f"accuracy            {seen:.1%} on fresh letters in the training fonts")
    print(f"                    {unseen:.1%} on fresh letters in fonts it never saw")


def contact_sheet(seed: int, rows: int = 6, columns: int = 16) -> bytes:
    """A PNG of `rows` x `columns` pictures as the network is shown them, each under its letter."""
    from matplotlib.figure import Figure

    images, labels = LetterBank(TRAINING_FONTS).draw(rows * columns, torch.Generator().manual_seed(seed))
    caption, tile = 12, IMAGE_SIZE + 12  # pixels; each picture has its caption above, and white to its right
    sheet = torch.ones(rows * tile, columns * tile, 3)
    figure = Figure(figsize=(columns * 0.6, rows * 0.6))
    axes = figure.add_axes((0.01, 0, 0.99, 1))
    axes.set_axis_off()
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        top, left = place // columns * tile, place % columns * tile
        sheet[top + caption : top + tile, left : left + IMAGE_SIZE] = image.permute(1, 2, 0)
        axes.text(left + IMAGE_SIZE / 2, top + caption / 2, LETTERS[label], fontsize=8, ha="center", va="center")
    axes.imshow(sheet.numpy(), interpolation="nearest")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
