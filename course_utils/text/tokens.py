"""From texts to batches: a WordPiece tokeniser, whole numbers with padding, and the masking of BERT."""

from collections.abc import Iterable, Sequence

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch.utils.data import DataLoader, TensorDataset

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # their numbers are 0 to 4, in every tokeniser of the course
PAD, _, CLS, SEP, MASK = range(len(SPECIAL))
MAX_LENGTH = 64  # tokens, with [CLS] and [SEP]: as many positions as the pocket encoder knows
# BERT hides 0.15. With more, a round through few texts asks more questions. Source: Wettig et al., arXiv:2202.08005.
MASKED_SHARE = 0.3


def train_tokenizer(texts: Iterable[str], vocab_size: int = 4000) -> Tokenizer:
    """A WordPiece tokeniser in lower case, learned from texts; it puts [CLS] before a text and [SEP] behind it.

    The library numbers the tokens differently each time: keep the tokeniser with the weights that were trained on it.
    Source: Devlin et al. 2018, arXiv:1810.04805, section 3; BertNormalizer and BertPreTokenizer of `tokenizers`.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return tokenizer


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], *, max_length: int = MAX_LENGTH, cut: bool = True
) -> dict[str, torch.Tensor]:
    """Texts -> {"input_ids": (N, T), "attention_mask": (N, T)}, both int64; the mask is 1 at tokens, 0 at padding.

    T is the length of the longest text, max_length at most. cut: shorten longer texts at their end, [SEP] stays;
    cut=False refuses them. The names are those that the models of `transformers` take.
    Raises ValueError for one text in place of a list, for a text without a known token, and for one that is too long.
    """
    if isinstance(texts, str) or not texts:
        raise ValueError(f"encode takes a list of texts with at least one in it, not {texts!r}.")
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    pad = tokenizer.token_to_id("[PAD]")
    unread = {tokenizer.token_to_id(name) for name in ("[UNK]", "[CLS]", "[SEP]")}
    for number, (text, ids) in enumerate(zip(texts, rows, strict=True)):
        if unread.issuperset(ids):
            what = f"has no token that the tokeniser knows: {text[:40]!r}" if text.strip() else "is empty"
            raise ValueError(f"Text {number} {what}. Leave such texts out: there is nothing in them to read.")
        if len(ids) > max_length and not cut:
            raise ValueError(
                f"Text {number} has {len(ids)} tokens, with [CLS] and [SEP], and {max_length} are allowed. Shorten it, "
                "or pass cut=True and lose its end."
            )
    rows = [ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]] for ids in rows]
    return _padded(rows, max(map(len, rows)), pad)


def pieces(tokenizer: Tokenizer, texts: Sequence[str], max_length: int = MAX_LENGTH) -> dict[str, torch.Tensor]:
    """As `encode`, for pretraining: a long text becomes several rows; those of less than eight tokens are left out."""
    step = max_length - 2
    ids = [encoding.ids[1:-1] for encoding in tokenizer.encode_batch(list(texts))]
    parts = [tokens[at : at + step] for tokens in ids for at in range(0, len(tokens), step)]
    parts = [part for part in parts if len(part) >= 8]
    return _padded([[CLS, *part, SEP] for part in parts], max_length, PAD)


def _padded(rows: Sequence[list[int]], length: int, pad: int) -> dict[str, torch.Tensor]:
    input_ids = torch.full((len(rows), length), pad)
    attention_mask = torch.zeros_like(input_ids)
    for row, (ids, mask) in zip(rows, zip(input_ids, attention_mask, strict=True), strict=True):
        ids[: len(row)], mask[: len(row)] = torch.tensor(row), 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def mask_tokens(
    input_ids: torch.Tensor, vocab_size: int, generator: torch.Generator, share: float = MASKED_SHARE
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide tokens for a model to find again: (B, T) -> what it is shown (B, T), and which are asked for, bool (B, T).

    Of the ordinary tokens `share` are chosen at random. Of these 80 % become [MASK], 10 % a random token, 10 % stay as
    they are; all of them are asked for. Source: Devlin et al. 2018, arXiv:1810.04805, section 3.1.
    """
    ordinary = input_ids >= len(SPECIAL)
    chosen = ordinary & (torch.rand(input_ids.shape, generator=generator) < share)
    dice = torch.rand(input_ids.shape, generator=generator)
    others = torch.randint(len(SPECIAL), vocab_size, input_ids.shape, generator=generator)
    shown = torch.where(chosen & (dice < 0.8), MASK, input_ids)
    return torch.where(chosen & (dice >= 0.9), others, shown), chosen


class _SimilarLengths:
    """A sampler of whole batches: shuffled, then sorted by length within eight batches at a time, to pad little."""

    def __init__(self, lengths: torch.Tensor, batch_size: int, generator: torch.Generator):
        self.lengths, self.batch_size, self.generator = lengths, batch_size, generator

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self):
        order = torch.randperm(len(self.lengths), generator=self.generator)
        chunks = [chunk[self.lengths[chunk].argsort()] for chunk in order.split(8 * self.batch_size)]
        batches = [batch for chunk in chunks for batch in chunk.split(self.batch_size)]
        return iter([batches[at] for at in torch.randperm(len(batches), generator=self.generator).tolist()])


def text_loader(
    encoded: dict[str, torch.Tensor],
    labels: torch.Tensor | None,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    vocab_size: int = 0,
) -> DataLoader:
    """Batches (inputs, targets) for `fit`, each cut to its own longest text; what `encode` gives goes in.

    With labels (N,) the inputs are {"input_ids", "attention_mask"} and the targets (B,).
    Without, for pretraining: the inputs are masked anew each time and have "asked", bool (B, T), besides; the targets
    are the tokens at those places, in reading order, (M,). It needs the vocab_size.
    shuffle: another order each epoch, texts of similar length together, from a generator seeded with `seed`.
    Raises ValueError for unequal lengths, or where neither labels nor vocab_size are given.
    """
    input_ids, attention_mask = encoded["input_ids"], encoded["attention_mask"]
    if labels is not None and len(labels) != len(input_ids):
        raise ValueError(f"{len(input_ids)} texts and {len(labels)} labels: there must be one label a text.")
    if labels is None and vocab_size <= len(SPECIAL):
        raise ValueError("Without labels a loader masks tokens: it needs vocab_size=tokenizer.get_vocab_size().")
    generator = torch.Generator().manual_seed(seed)
    lengths = attention_mask.sum(dim=1)

    def finish(batch):
        *_, ids, mask, targets = batch if labels is not None else (batch[1], batch[0], batch[1])
        longest = int(mask.sum(dim=1).max())
        ids, mask = ids[:, :longest], mask[:, :longest]
        if labels is not None:
            return {"input_ids": ids, "attention_mask": mask}, targets
        shown, asked = mask_tokens(ids, vocab_size, generator)
        return {"input_ids": shown, "attention_mask": mask, "asked": asked}, ids[asked]

    tensors = (attention_mask, input_ids) if labels is None else (input_ids, attention_mask, labels)
    order = _SimilarLengths(lengths, batch_size, generator) if shuffle else torch.arange(len(lengths)).split(batch_size)
    return DataLoader(TensorDataset(*tensors), sampler=order, batch_size=None, collate_fn=finish, generator=generator)
