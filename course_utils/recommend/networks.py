"""Two recommenders in torch.nn, their batches, and their loss. They go through the course's `fit`."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from course_utils.recommend.population import Clicks
from course_utils.training import evaluation_mode


class MatrixFactorisation(nn.Module):
    """A vector for each user and each item, and a bias for each item; the score is a product and the bias."""

    def __init__(self, num_users: int, num_items: int, dim: int = 16):
        super().__init__()
        self.users, self.items = nn.Embedding(num_users, dim), nn.Embedding(num_items, dim)
        self.bias = nn.Embedding(num_items, 1)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.zeros_(self.bias.weight)

    def user_vectors(self, users: torch.Tensor) -> torch.Tensor:
        return self.users(users)

    def item_vectors(self, items: torch.Tensor) -> torch.Tensor:
        return self.items(items)

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Scores of candidates: users (B,) and items (B, C) -> (B, C)."""
        products = torch.einsum("bd,bcd->bc", self.user_vectors(users), self.item_vectors(items))
        return products + self.bias(items).squeeze(-1)


class TwoTower(MatrixFactorisation):
    """Beside the vector of its own, an item has one from its features, and a user one from what they clicked.

    features: (items, F) float32. set_history tells what each user clicked. In training, an item's or a user's own
    vector is left out with the probability `id_dropout`, so that the towers learn to do without it: that is what they
    must do for somebody new. After M. Volkovs et al., "DropoutNet", NeurIPS 2017.
    """

    def __init__(self, num_users: int, num_items: int, features: np.ndarray, dim: int = 16, id_dropout: float = 0.5):
        super().__init__(num_users, num_items, dim)
        if len(features) != num_items:
            raise ValueError(f"{num_items} items and features of {len(features)}: each item needs its own.")
        for table in (self.users, self.items):
            nn.init.zeros_(table.weight)
        size, self.id_dropout = features.shape[1], id_dropout
        self.item_tower = nn.Sequential(nn.Linear(size, 32), nn.ReLU(), nn.Linear(32, dim))
        self.user_tower = nn.Sequential(nn.Linear(size, 32), nn.ReLU(), nn.Linear(32, dim))
        self.register_buffer("features", torch.as_tensor(features, dtype=torch.float32))
        self.register_buffer("profiles", torch.zeros(num_users, size))

    def set_history(self, known: np.ndarray) -> "TwoTower":
        """Take the mean features of each user's clicks, bool (users, items), as the user's profile; returns itself."""
        if known.shape != (len(self.profiles), len(self.features)):
            raise ValueError(f"Expected ({len(self.profiles)}, {len(self.features)}) clicks, got {known.shape}.")
        table = torch.as_tensor(known, dtype=torch.float32, device=self.features.device)
        self.profiles.copy_(table @ self.features / table.sum(1, keepdim=True).clamp_min(1))
        return self

    def user_vectors(self, users: torch.Tensor) -> torch.Tensor:
        return self.user_tower(self.profiles[users]) + self._own(self.users(users))

    def item_vectors(self, items: torch.Tensor) -> torch.Tensor:
        return self.item_tower(self.features[items]) + self._own(self.items(items))

    def _own(self, vectors: torch.Tensor) -> torch.Tensor:
        """The vectors of their own; in training, some of them are left out as a whole."""
        if not self.training or not self.id_dropout:
            return vectors
        return vectors * (torch.rand(vectors.shape[:-1], device=vectors.device) >= self.id_dropout)[..., None]


class CandidateLoader:
    """Batches ((users (B,), candidates (B, 1 + negatives)), targets (B,) of zeros): the clicked item stands first.

    The negatives are drawn anew in each epoch, evenly from `catalogue`, and again (up to five times) where the user
    has clicked one of them. known: bool (users, items).
    Raises ValueError where there are no clicks, or a user or an item is unknown.
    """

    def __init__(
        self, clicks: Clicks, known: np.ndarray, catalogue: np.ndarray, *, negatives=20, batch_size=256, seed=0
    ):
        for name, numbers, size in (("user", clicks.users, known.shape[0]), ("item", clicks.items, known.shape[1])):
            if not len(numbers):
                raise ValueError("There are no clicks to learn from: the period or the selection is empty.")
            if numbers.min() < 0 or numbers.max() >= size:
                raise ValueError(f"Unknown {name} {numbers.max()}: there are {size}, counted from 0.")
        self.users, self.items = torch.as_tensor(clicks.users), torch.as_tensor(clicks.items)
        self.known, self.catalogue = torch.as_tensor(known), torch.as_tensor(catalogue)
        self.negatives, self.batch_size = negatives, batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.users) // self.batch_size)

    def __iter__(self):
        for chosen in torch.randperm(len(self.users), generator=self.generator).split(self.batch_size):
            users, items = self.users[chosen], self.items[chosen]
            drawn = self._draw((len(chosen), self.negatives))
            for _ in range(5):
                drawn = torch.where(self.known[users[:, None], drawn], self._draw(drawn.shape), drawn)
            yield (users, torch.cat([items[:, None], drawn], dim=1)), torch.zeros(len(chosen), dtype=torch.int64)

    def _draw(self, shape) -> torch.Tensor:
        return self.catalogue[torch.randint(len(self.catalogue), shape, generator=self.generator)]


def bpr_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Bayesian personalised ranking: -log sigmoid(clicked - other), the mean over pairs; outputs (B, 1 + negatives).

    Source: S. Rendle et al., UAI 2009. The targets, zeros, say that the clicked item stands first. With the same
    outputs and targets, nn.CrossEntropyLoss is the sampled softmax.
    """
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(f"BPR compares a clicked item with others: scores (B, 2 or more), not {tuple(outputs.shape)}.")
    return -F.logsigmoid(outputs[:, :1] - outputs[:, 1:]).mean()


@torch.no_grad()
def score_all(model: MatrixFactorisation) -> np.ndarray:
    """The score of every item for every user, (users, items), in evaluation mode."""
    device = model.bias.weight.device
    with evaluation_mode(model):
        users = model.user_vectors(torch.arange(model.users.num_embeddings, device=device))
        items = model.item_vectors(torch.arange(model.items.num_embeddings, device=device))
    return (users @ items.T + model.bias.weight.squeeze(-1)).cpu().numpy()
