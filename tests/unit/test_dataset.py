"""Tokens of a data set: by the model's own tokenizer, else from its size and said so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from planner import dataset
from planner.dataset import read_dataset
from planner.errors import RequestError
from planner.tokens import counter_of

TURNS = [{"role": "user", "content": "one two three"}, {"role": "assistant", "content": "four five"}]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A directory with a tokenizer that takes each word for a token."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.enable_truncation(2)
    words.enable_padding(length=64)
    folder = tmp_path / "model"
    folder.mkdir()
    words.save(str(folder / "tokenizer.json"))
    return str(folder)


def lines(tmp_path: Path, *samples: object) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(json.dumps(sample) for sample in samples) + "\n\n")
    return path


def test_the_models_tokenizer_counts_the_text_alone(model: str, tmp_path: Path) -> None:
    found = read_dataset(
        lines(tmp_path, {"id": "not text", "messages": TURNS}, {"text": "six"}), counter_of(model)
    )
    assert (found.num_samples, found.num_tokens) == (2, 6)
    assert "2 samples, 6 tokens" in found.in_words


def test_without_a_tokenizer_the_size_speaks_and_says_how_far_it_is_trusted(tmp_path: Path) -> None:
    found = read_dataset(lines(tmp_path, {"text": "x" * 6000}), counter_of("nobody/nothing", str(tmp_path)))
    assert found.num_tokens == 1500
    assert "1,200 to 2,000" in found.in_words
    assert "not on this machine" in found.in_words


def test_a_damaged_tokenizer_is_as_none(model: str) -> None:
    (Path(model) / "tokenizer.json").write_text("{")
    assert counter_of(model) is None


def test_of_a_large_file_the_beginning_is_counted(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "MOST_COUNTED_BYTES", 1000)
    monkeypatch.setattr(dataset, "_BATCH_BYTES", 100)
    found = read_dataset(lines(tmp_path, *[{"text": "word " * 20}] * 100), counter_of(model))
    assert found.num_tokens == 2000
    assert found.counted_bytes < found.text_bytes
    assert "first 10% of the text" in found.in_words


@pytest.mark.parametrize(
    ("text", "said"), [("{}\n", "no text"), ('{"text": "a"}\n{oops\n', "line 2 is not JSON"), ("\n", "no text")]
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    with pytest.raises(RequestError, match=said):
        read_dataset(path)
    with pytest.raises(RequestError, match="cannot be read"):
        read_dataset(tmp_path / "missing.jsonl")
