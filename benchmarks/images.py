"""The images' way into the network: the article's transforms against the loader of the full size."""

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from benchmarks.measure import Row, in_turn, times_faster
from course_utils.full_size.pipeline import make_full_size_loader
from course_utils.pocket import InputSpec

IMAGENET = InputSpec((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224)
BATCH = 32  # the article's


def cifar_like(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as large as CIFAR-10's, uint8 (count, 3, 32, 32), and labels; what they show does not change the speed."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return images, torch.arange(count) % 10


class AsPictures(Dataset):
    """What torchvision's CIFAR10 does with the article's transforms: a PIL image, resized and normalised by itself."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, size: int):
        self.pixels, self.labels = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()
        self.transform = Compose([Resize(size), ToTensor(), Normalize(IMAGENET.mean, IMAGENET.std)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def article_loader(count: int, size: int, shuffle: bool = False) -> DataLoader:
    return DataLoader(AsPictures(*cifar_like(count), size), batch_size=BATCH, shuffle=shuffle)


def course_loader(count: int, size: int, train: bool = False, device: str = "cpu", batch: int = BATCH) -> DataLoader:
    options = dict(batch_size=batch, image_size=size, spec=IMAGENET, device=device, train=train, seed=0)
    return make_full_size_loader(*cifar_like(count), **options)


def largest_difference(size: int, count: int) -> float:
    """Between the two loaders' inputs, in grey levels (of 255)."""
    pairs = zip(article_loader(count, size), course_loader(count, size), strict=True)
    std = torch.tensor(IMAGENET.std)[:, None, None]
    return max(((theirs - ours).abs() * std).max().item() * 255 for (theirs, _), (ours, _) in pairs)


def go_through(loader: DataLoader) -> None:
    for _ in loader:
        pass


def rows(quick: bool) -> list[Row]:
    count, rounds = (64, 2) if quick else (640, 7)
    loaders = {
        "article, 224": article_loader(count, 224),
        "article, 64": article_loader(count, 64),
        "224": course_loader(count, 224),
        "64": course_loader(count, 64),
        "64, train": course_loader(count, 64, train=True),
    }
    seconds = in_turn({name: lambda loader=loader: go_through(loader) for name, loader in loaders.items()}, rounds)
    how = f"{count} images, batches of {BATCH}"
    worst = max(largest_difference(size, min(count, 128)) for size in (224, 64))
    return [
        times_faster("transforms, both at 224 pixels", seconds["article, 224"], seconds["224"], 2, how),
        times_faster("transforms at 64 pixels, the article's at 224", seconds["article, 224"], seconds["64"], 12, how),
        times_faster("transforms, both at 64 pixels", seconds["article, 64"], seconds["64"], None, how),
        times_faster(
            "the same, mirrored and moved at random too", seconds["article, 64"], seconds["64, train"], None, how
        ),
        Row(
            "largest difference from the article's pixels",
            f"{worst:.2f} of 255",
            "at most 1 of 255",
            worst <= 1.001,
            "at 224 and 64 pixels; photographs and bicubic: tests/test_pipeline.py",
        ),
    ]
