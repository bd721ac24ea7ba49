"""A small Transformer encoder, what stands on top of it, and the pretrained weights that ship with the course."""

import hashlib
import io
from pathlib import Path

import torch
import torch.nn as nn
from tokenizers import Tokenizer

from course_utils.text.tokens import MAX_LENGTH, PAD

WEIGHTS = Path(__file__).parent.parent / "weights"
TEXT_WEIGHTS = WEIGHTS / "tiny_encoder_docstrings.pt"
TEXT_SHA256 = "f85eb54714a1f6762e5d05e3ed367541feee1b62f44bc4818fb336034271468d"
TEXT_TOKENIZER = WEIGHTS / "tiny_encoder_tokenizer.json"
TOKENIZER_SHA256 = "82cc219abe8666729f691c21f697e38e47aaeaf687e48329cf86de28da70c4b6"
POOLING = ("mean", "first")


class TextEncoder(nn.Module):
    """BERT in miniature: tokens and positions (width 128), two Transformer layers of four heads, 0.79 M parameters.

    Takes input_ids and attention_mask, (B, T) with T <= 64, gives (B, T, width). A layer is PyTorch's
    `nn.TransformerEncoderLayer`: attention, then two linear layers with a GELU, each added to its input and normalised.
    Source: Devlin et al. 2018, arXiv:1810.04805, made smaller; no segment embeddings.
    Raises ValueError for texts that are too long, token numbers out of range, and texts that are padding alone.
    """

    def __init__(self, vocab_size: int, width: int = 128, heads: int = 4, layers: int = 2, dropout: float = 0.1):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width, padding_idx=PAD)
        self.positions = nn.Embedding(MAX_LENGTH, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, "gelu", batch_first=True)
            for _ in range(layers)
        )
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Tokens and their places as vectors, before anything looks at anything else: (B, T) -> (B, T, width)."""
        places = self.positions.weight[: input_ids.shape[1]]
        return self.dropout(self.norm(self.tokens(input_ids) + places))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if input_ids.shape[1] > MAX_LENGTH:
            raise ValueError(f"{input_ids.shape[1]} tokens: the encoder has {MAX_LENGTH} positions. Cut the texts.")
        if not attention_mask.any(dim=1).all():
            raise ValueError("A text of the batch is padding alone: an empty text has nothing to attend to.")
        if input_ids.min() < 0 or input_ids.max() >= self.tokens.num_embeddings:
            raise ValueError(
                f"Tokens from {input_ids.min()} to {input_ids.max()}, and the encoder knows 0 to "
                f"{self.tokens.num_embeddings - 1}: it was made for another tokeniser."
            )
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=attention_mask == 0)
        return hidden


class MaskedLanguageModel(nn.Module):
    """The encoder with the head of pretraining: logits over the vocabulary, (M, V), at the M places that are asked for.

    Its last layer is the table of tokens once more (tied weights), so that pretraining trains it from both sides.
    Logits at all places would cost seven times as much, and no loss looks at them.
    """

    def __init__(self, vocab_size: int):
        super().__init__()
        self.encoder = TextEncoder(vocab_size)
        width = self.encoder.tokens.embedding_dim
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        hidden = self.transform(self.encoder(input_ids, attention_mask)[asked])
        return hidden @ self.encoder.tokens.weight.T + self.bias


class TextClassifier(nn.Module):
    """The encoder with a new head: logits (B, num_classes).

    pooling: "mean" over the tokens that are no padding, or "first", the vector of [CLS] as in BERT.
    """

    head_name = "classifier"

    def __init__(self, encoder: TextEncoder, num_classes: int, pooling: str = "mean"):
        super().__init__()
        if pooling not in POOLING:
            raise ValueError(f"pooling must be one of {', '.join(POOLING)}, not {pooling!r}.")
        self.encoder, self.pooling = encoder, pooling
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(encoder.tokens.embedding_dim, num_classes)

    def features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """One vector a text, (B, width): what the head reads."""
        hidden = self.encoder(input_ids, attention_mask)
        if self.pooling == "first":
            return hidden[:, 0]
        weights = attention_mask[..., None].to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.features(input_ids, attention_mask)))


def load_tokenizer() -> Tokenizer:
    """The tokeniser that belongs to the shipped weights. Raises ValueError where its file is damaged or missing."""
    return Tokenizer.from_str(_checked(TEXT_TOKENIZER, TOKENIZER_SHA256).decode("utf-8"))


def load_language_model(path: Path | str = TEXT_WEIGHTS, sha256: str | None = TEXT_SHA256) -> MaskedLanguageModel:
    """The shipped `MaskedLanguageModel`, or one of your own with sha256=None.

    Raises FileNotFoundError where there is no file, ValueError where it is damaged or holds something else.
    """
    content = _checked(Path(path), sha256)
    try:
        state = torch.load(io.BytesIO(content), weights_only=True)["state_dict"]
        model = MaskedLanguageModel(len(state["bias"]))
        model.load_state_dict(state)  # float16 in the file, copied into float32 parameters
    except Exception as error:  # whatever is wrong with a file, the remedy is the same
        raise ValueError(f"{Path(path).name} holds no weights of the pocket encoder. {REMEDY}") from error
    return model


def build_text_classifier(num_classes: int, *, weights: str | None, pooling: str = "mean") -> TextClassifier:
    """The pocket encoder with a new head; weights: None for random ones, "DEFAULT" for the shipped pretraining.

    Raises ValueError for other weights, another pooling, and a damaged file.
    """
    if weights not in (None, "DEFAULT"):
        raise ValueError(f'weights must be None (random) or "DEFAULT" (pretrained), not {weights!r}.')
    encoder = load_language_model().encoder if weights else TextEncoder(load_tokenizer().get_vocab_size())
    return TextClassifier(encoder, num_classes, pooling)


REMEDY = "Get it back with: git checkout -- course_utils/weights"


def _checked(path: Path, sha256: str | None) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path.name}. {REMEDY}")
    content = path.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path.name} is damaged or not the file that the course ships. {REMEDY}")
    return content
