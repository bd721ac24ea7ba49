"""Text: a corpus that every machine has, a tokeniser, a small Transformer encoder, and ways to fine-tune it."""
