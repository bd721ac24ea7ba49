"""Text: the corpus, the tokeniser and its batches, the encoder, its weights, the recipes, and the full size."""

import csv
import io
import sys
import zipfile

import pytest
import torch
import torch.nn as nn
from full_size import experiment_cells

from course_utils.__main__ import main
from course_utils.commands.pretrain_text import pretrain
from course_utils.full_size.text import SequenceClassifier, build_sequence_classifier, load_sst2
from course_utils.models import freeze
from course_utils.text import corpus
from course_utils.text.corpus import load_subjects, read_docstrings, tidy, top_level
from course_utils.text.encoder import (
    TEXT_SHA256,
    TEXT_TOKENIZER,
    TEXT_WEIGHTS,
    TOKENIZER_SHA256,
    MaskedLanguageModel,
    TextClassifier,
    TextEncoder,
    build_text_classifier,
    load_language_model,
    load_tokenizer,
)
from course_utils.text.recipes import TEXT_RATES, fine_tune_text, fit_baseline
from course_utils.text.tokens import MASK, encode, mask_tokens, pieces, text_loader, train_tokenizer
from course_utils.training import accuracy, fit

TEXTS = [
    "Close the connection to the server.",
    "Return the mean of the data.",
    "Open a file and read the first line of it.",
]


@pytest.fixture(scope="session")
def data():
    return load_subjects()


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer()


# --- the corpus -----------------------------------------------------------------------------------------------------


def test_no_module_is_on_two_sides_and_the_tested_parts_are_even(data):
    parts = [{data.modules[i] for i in part.tolist()} for part in data.split]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert all(len(data.labels[part].bincount().unique()) == 1 for part in data.split[1:])
    assert len(data.split.test) > 400 and len(data.split.val) > 200 and len(data.split.train) > 2000
    assert len(data.texts) == len(data.labels) == len(data.modules)


def test_nothing_of_a_tested_module_is_pretrained_on(data):
    held = {data.texts[i] for part in data.split[1:] for i in part.tolist()}
    assert not held & set(data.unlabelled)
    assert {data.texts[i] for i in data.split.train.tolist()} <= set(data.unlabelled)
    assert len(data.unlabelled) == len(set(data.unlabelled)) > 3000


def test_each_module_has_one_subject_and_one_side():
    names = [
        name for part in (corpus.TRAIN, corpus.VAL, corpus.TEST) for names in part.values() for name in names.split()
    ]
    assert len(names) == len(set(names))
    assert tuple(corpus.VAL) == tuple(corpus.TEST) == corpus.SUBJECTS


def test_a_text_does_not_name_its_own_module(data):
    for i in data.split.test.tolist():
        assert data.modules[i] not in data.texts[i].lower().replace(".", " ").split(), data.texts[i]


@pytest.mark.parametrize(
    ("docstring", "module", "wanted"),
    [
        ("Open a TarFile.\n\n>>> tarfile.open('x')\n... 1", ("tarfile",), "Open a ."),
        ("Use decimal numbers.", ("_pydecimal",), "Use numbers."),
        ("Parse a date.", ("_strptime",), "Parse a date."),
        ("The dom of a domain.", ("xml", "dom"), "The of a domain."),
        ("", ("os",), ""),
    ],
)
def test_examples_and_names_are_taken_out(docstring, module, wanted):
    assert tidy(docstring, module) == wanted


def test_the_names_of_sources_are_those_that_are_imported():
    assert [top_level(name) for name in ("_pydecimal", "_strptime", "os", "__future__", "_pyio", "_pyrepl")] == [
        "decimal", "strptime", "os", "_future__", "io", "pyrepl",
    ]  # fmt: skip


def test_a_library_without_sources_is_explained_and_a_broken_file_is_passed_over(tmp_path):
    with pytest.raises(FileNotFoundError, match="comes with its standard library"):
        read_docstrings(tmp_path)
    (tmp_path / "broken.py").write_text("def (", encoding="utf-8")
    (tmp_path / "socket.py").write_text('"""' + "word " * 9 + '"""\ndef f():\n    "Too short."\n', encoding="utf-8")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "x.py").write_text('"""' + "other " * 9 + '"""', encoding="utf-8")
    assert [(doc.module, len(doc.text.split())) for doc in read_docstrings(tmp_path)] == [("socket", 9)]


def test_a_random_split_promises_too_much(data):
    """What the notebook tells, for this version of Python."""

    def score(train, test):
        model = fit_baseline([data.texts[i] for i in train.tolist()], data.labels[train])
        return model.score([data.texts[i] for i in test.tolist()], data.labels[test])

    order = torch.randperm(len(data.texts), generator=torch.Generator().manual_seed(0))
    honest, flattering = score(data.split.train, data.split.test), score(order[1000:], order[:1000])
    assert 0.35 < honest < 0.6 and flattering > honest + 0.2


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_encode_pads_cuts_and_marks(tokenizer):
    encoded = encode(tokenizer, TEXTS, max_length=8)
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    assert ids.shape == mask.shape == (3, 8)
    assert (ids[:, 0] == 2).all() and ids[2, -1] == 3, "[CLS] in front, and [SEP] behind a text that was cut"
    assert torch.equal(mask == 0, ids == 0)


@pytest.mark.parametrize(
    ("texts", "options", "words"),
    [
        ([""], {}, "Text 0 is empty"),
        (["fine words", "  "], {}, "Text 1 is empty"),
        (["你好"], {}, "no token that the tokeniser knows"),
        (["word " * 70], dict(cut=False), "allowed"),
        ("one text", {}, "list of texts"),
        ([], {}, "list of texts"),
    ],
)
def test_bad_texts_are_refused_in_words(tokenizer, texts, options, words):
    with pytest.raises(ValueError, match=words):
        encode(tokenizer, texts, **options)


def test_two_trainings_give_nearly_the_same_tokens_under_other_numbers(data):
    first, second = (set(train_tokenizer(data.unlabelled[:300], 500).get_vocab()) for _ in range(2))
    assert len(first) == len(second) == 500
    assert len(first & second) > 480


def test_masking_is_80_10_10_and_spares_what_is_special():
    ids = torch.randint(5, 1000, (200, 50), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1] = 2, 0
    shown, chosen = mask_tokens(ids, 1000, torch.Generator().manual_seed(0), share=0.15)
    assert not chosen[:, 0].any() and not chosen[:, -1].any()
    assert torch.equal(shown[~chosen], ids[~chosen])
    assert chosen[:, 1:-1].float().mean() == pytest.approx(0.15, abs=0.01)
    masked, same = (shown[chosen] == MASK).float().mean(), (shown[chosen] == ids[chosen]).float().mean()
    assert masked == pytest.approx(0.8, abs=0.03) and same == pytest.approx(0.1, abs=0.03)


def test_long_texts_become_several_rows(tokenizer):
    rows = pieces(tokenizer, ["word " * 100, "too short"])
    assert rows["attention_mask"].sum(dim=1).tolist() == [64, 40]


def test_a_loader_deals_out_every_text_once_and_cuts_the_padding(tokenizer):
    encoded = encode(tokenizer, TEXTS * 7)
    encoded["input_ids"] = nn.functional.pad(encoded["input_ids"], (0, 20))
    encoded["attention_mask"] = nn.functional.pad(encoded["attention_mask"], (0, 20))
    loader = text_loader(encoded, torch.arange(21), batch_size=4, shuffle=True)
    batches = list(loader)
    assert len(loader) == len(batches) == 6
    assert sorted(torch.cat([targets for _, targets in batches]).tolist()) == list(range(21))
    for inputs, _ in batches:
        assert inputs["attention_mask"].sum(dim=1).max() == inputs["input_ids"].shape[1]
    again = torch.cat([targets for _, targets in loader])
    assert not torch.equal(again, torch.cat([targets for _, targets in batches])), "another order each epoch"


def test_a_masking_loader_asks_for_the_hidden_tokens(tokenizer):
    encoded = encode(tokenizer, TEXTS * 20)
    V = tokenizer.get_vocab_size()
    (inputs, targets), *_ = text_loader(encoded, None, batch_size=60, vocab_size=V)
    assert torch.equal(targets, encoded["input_ids"][inputs["asked"]])
    with pytest.raises(ValueError, match="vocab_size"):
        text_loader(encoded, None, batch_size=4)
    with pytest.raises(ValueError, match="one label a text"):
        text_loader(encoded, torch.arange(3), batch_size=4)


# --- the encoder ----------------------------------------------------------------------------------------------------


@pytest.fixture()
def small():
    torch.manual_seed(0)
    return TextClassifier(TextEncoder(100, width=16, heads=2), 3)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_neighbours_do_not_change_an_answer_with_the_mask_and_do_without(small, pooling):
    small.pooling = pooling
    small.eval()
    ids = torch.tensor([[2, 7, 9, 3, 0, 0], [2, 5, 6, 7, 8, 3]])
    mask = (ids != 0).long()
    with torch.no_grad():
        alone, together = small(ids[:1, :4], mask[:1, :4])[0], small(ids, mask)[0]
        assert torch.allclose(alone, together, atol=1e-5)
        assert not torch.allclose(alone, small(ids, torch.ones_like(mask))[0], atol=1e-3)


@pytest.mark.parametrize(
    ("ids", "mask", "words"),
    [
        (torch.full((1, 65), 7), torch.ones(1, 65), "64 positions"),
        (torch.tensor([[2, 300]]), torch.ones(1, 2), "another tokeniser"),
        (torch.tensor([[2, 3], [0, 0]]), torch.tensor([[1, 1], [0, 0]]), "padding alone"),
    ],
)
def test_bad_batches_are_refused_in_words(small, ids, mask, words):
    with pytest.raises(ValueError, match=words):
        small(ids, mask)


def test_a_frozen_encoder_stands_still_and_unknown_options_are_refused(tokenizer):
    encoded, labels = encode(tokenizer, TEXTS), torch.tensor([0, 1, 2])
    before = build_text_classifier(3, weights="DEFAULT").encoder.state_dict()
    model, _ = fine_tune_text("probe", encoded, labels, num_classes=3, seed=0, device="cpu", steps=2)
    assert all(torch.equal(weight, before[name]) for name, weight in model.encoder.state_dict().items())
    for call, words in (
        (lambda: fine_tune_text("nothing", encoded, labels, num_classes=3, seed=0, device="cpu"), "Unknown recipe"),
        (lambda: build_text_classifier(3, weights="best"), "weights must be"),
        (lambda: TextClassifier(model.encoder, 3, "last"), "pooling must be"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("recipe", TEXT_RATES)
def test_each_recipe_learns_three_texts_and_repeats_itself(tokenizer, recipe):
    encoded, labels = encode(tokenizer, TEXTS), torch.tensor([0, 1, 2])
    runs = [
        fine_tune_text(recipe, encoded, labels, num_classes=3, seed=1, device="cpu", steps=30)[1].step_loss
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert runs[0][-1] < 0.6 * runs[0][0]


# --- the weights ----------------------------------------------------------------------------------------------------


def test_what_ships_is_small_and_its_own(tokenizer):
    assert TEXT_WEIGHTS.stat().st_size + TEXT_TOKENIZER.stat().st_size < 3_000_000
    model = load_language_model()
    assert model.encoder.tokens.num_embeddings == tokenizer.get_vocab_size()
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in model.parameters())


def test_the_model_card_is_about_the_files_that_ship():
    card = (TEXT_WEIGHTS.parent / "MODEL_CARD_TEXT.md").read_text(encoding="utf-8")
    parameters = sum(parameter.numel() for parameter in load_language_model().parameters())
    sizes = [path.stat().st_size for path in (TEXT_WEIGHTS, TEXT_TOKENIZER)]
    assert all(f"{number:,}" in card for number in (parameters, *sizes))
    assert TEXT_SHA256 in card and TOKENIZER_SHA256 in card


def test_the_shipped_encoder_has_learnt_from_its_texts(data, tokenizer):
    """It guesses hidden words of modules that it never saw far better than frequency alone would (some 5 %)."""
    rows = pieces(tokenizer, [data.texts[i] for i in data.split.val.tolist()])
    loader = text_loader(rows, None, batch_size=64, vocab_size=tokenizer.get_vocab_size())
    model = load_language_model().eval()
    with torch.no_grad():
        right = torch.cat([accuracy(model(**inputs), targets) for inputs, targets in loader])
    assert right.float().mean() > 0.15


def test_damaged_weights_are_refused_in_words(tmp_path):
    damaged = tmp_path / "weights.pt"
    with pytest.raises(FileNotFoundError, match="git checkout"):
        load_language_model(damaged)
    damaged.write_bytes(TEXT_WEIGHTS.read_bytes()[:5000])
    with pytest.raises(ValueError, match="damaged"):
        load_language_model(damaged)
    with pytest.raises(ValueError, match="holds no weights"):
        load_language_model(damaged, sha256=None)


def test_pretraining_falls_from_ln_v_and_repeats_itself(tokenizer, data):
    rows, V = pieces(tokenizer, data.unlabelled[:200]), tokenizer.get_vocab_size()
    histories = [pretrain(rows, V, epochs=3, seed=0, progress=False)[1] for _ in range(2)]
    losses = histories[0].step_loss
    assert losses == histories[1].step_loss
    assert losses[0] == pytest.approx(torch.tensor(V).log().item(), abs=0.3)
    assert losses[-1] < losses[0] - 0.5


def test_the_command_writes_what_the_course_reads_and_nothing_twice(tmp_path, capsys):
    options = ["pretrain_text", "--epochs", "1", "--texts", "120", "--out", str(tmp_path)]
    assert main(options) == 0
    assert isinstance(load_language_model(tmp_path / TEXT_WEIGHTS.name, sha256=None), MaskedLanguageModel)
    assert "as the course ships no" in " ".join(capsys.readouterr().out.split())
    assert main(options) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*options, "--seed", "-1"]) == 1


# --- the full size --------------------------------------------------------------------------------------------------


def write_sst2(path, rows=24):
    with zipfile.ZipFile(path, "w") as archive:
        for name, count in (("train", rows), ("dev", 6)):
            table = io.StringIO()
            writer = csv.writer(table, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
            writer.writerow(("sentence", "label"))
            writer.writerows((f"a {'fine' if i % 2 else 'dull'} film number {i} ", i % 2) for i in range(count))
            archive.writestr(f"SST-2/{name}.tsv", table.getvalue())


def write_tiny_model(folder, kind):
    """A randomly initialised model of `transformers` and a tokeniser, in a folder that `from_pretrained` reads."""
    transformers = pytest.importorskip("transformers")
    own = train_tokenizer([f"a fine dull film number {i}" for i in range(24)], 200)
    size = own.get_vocab_size()
    if kind == "distilbert":
        config = transformers.DistilBertConfig(vocab_size=size, dim=16, n_layers=1, n_heads=2, hidden_dim=16)
        model = transformers.DistilBertForSequenceClassification(config)
    else:
        config = transformers.BertConfig(
            vocab_size=size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(folder)
    special = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")
    transformers.PreTrainedTokenizerFast(tokenizer_object=own, **special).save_pretrained(folder)


def test_sst2_is_read_from_its_archive(tmp_path):
    write_sst2(tmp_path / "SST-2.zip")
    films = load_sst2(tmp_path / "SST-2.zip")
    assert [len(part) for part in films.split] == [23, 1, 6]
    assert len(torch.cat(films.split).unique()) == len(films.texts) == 30
    assert films.texts[1] == "a fine film number 1" and films.labels[1] == 1
    with pytest.raises(FileNotFoundError, match="prepare --only sst2"):
        load_sst2(tmp_path / "none.zip")
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="damaged"):
        load_sst2(tmp_path / "bad.zip")


@pytest.mark.parametrize("kind", ["distilbert", "bert"])
def test_a_model_of_transformers_goes_through_the_same_fit(tmp_path, kind):
    write_tiny_model(tmp_path / kind, kind)
    model, tokenizer = build_sequence_classifier(str(tmp_path / kind), 2)
    encoded, labels = encode(tokenizer, ["a fine film", "a dull film number 2"] * 4), torch.tensor([1, 0] * 4)
    freeze(model, "model")
    for parameter in model.get_submodule(model.head_name).parameters():
        parameter.requires_grad_(True)
    body = {name: weight.clone() for name, weight in model.state_dict().items() if "classifier" not in name}
    history = fit(
        model,
        text_loader(encoded, labels, batch_size=4, shuffle=True),
        None,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2),
        device="cpu",
        epochs=2,
        metrics={"accuracy": accuracy},
        progress=False,
    )
    assert len(history.step_loss) == 4 and "train_accuracy" in history.columns
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in body.items())


def test_no_transformers_and_no_model_are_explained(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConnectionError, match="prepare --only bert-base-uncased"):
        build_sequence_classifier(str(tmp_path / "empty"), 2)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match="text"):
        build_sequence_classifier("bert", 2)


def test_the_notebooks_own_cells_run_at_full_size(tmp_path, monkeypatch, capsys, root):
    if not (root / "notebooks" / "06_text_fine_tuning.ipynb").is_file():
        pytest.skip("not written yet")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    write_sst2(tmp_path / "data" / "SST-2.zip")
    write_tiny_model(tmp_path / "data" / "bert-base-uncased", "bert")
    size, *rest = experiment_cells("06_text_fine_tuning.ipynb")
    names = {}
    for cell in [size.replace('"pocket"', '"full"', 1), *rest]:
        exec(cell, names)
        if 'if SIZE == "pocket"' in cell:
            assert names["settings"]["name"] == "BERT"
            names["settings"].update(epochs=1, batch_size=12)  # 23 training sentences: two batches
    assert isinstance(names["model"], SequenceClassifier)
    assert len(names["history"].step_loss) == 2 and names["outputs"].shape == (6, 2)
    assert "BERT: validation" in capsys.readouterr().out
    assert list((tmp_path / "notebooks" / "runs").rglob("*tfevents*"))
