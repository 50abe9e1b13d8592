"""Orders of batch lengths: what is composed of traced steps is the run that would have been traced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import RequestError, UnsupportedError
from planner.units import MIB
from tests.trace.steps_of import readable, workload
from validate.trace.allocator import AllocatorSettings
from validate.trace.builder import build_model, make_batch
from validate.trace.events import EventLog
from validate.trace.fake import as_with_data, fake_tensors
from validate.trace.history import compose, nearest_lengths
from validate.trace.lengths import batch_lengths, read_lengths
from validate.trace.optimizers import build_optimizer
from validate.trace.replay import replay
from validate.trace.steps import adopt_model, plain_loop
from validate.trace.tracer import Tracer

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 2000, "tie_word_embeddings": False,
}  # fmt: skip


def traced_lengths(*lengths: int, **changes: Any) -> EventLog:
    asked = workload(**changes)
    with fake_tensors(), as_with_data(padded=False):
        built = build_model(LLAMA, asked)
        optimizer = build_optimizer(built.model, asked.optimizer)
        tracer = Tracer()
        with tracer, tracer.watch(built.model):
            adopt_model(tracer, built.model)
            batches = [[make_batch(built, asked, seq_len=length)] for length in lengths]
            plain_loop(tracer, built, optimizer, batches, asked)
    return tracer.log


@pytest.mark.parametrize("changes", [{}, {"keep_outputs": True, "use_cache": True}])
def test_a_composed_run_is_the_run_traced_in_that_order(changes: dict[str, Any]) -> None:
    log = traced_lengths(32, 8, 16, 32, **changes)
    order = (16, 32, 8, 32, 16)
    composed = compose(log, (32, 8, 16, 32), order)
    straight = traced_lengths(32, *order, **changes)
    assert sizes(composed) == sizes(straight)
    assert replay(composed).peak_reserved_bytes == replay(straight).peak_reserved_bytes


def sizes(log: EventLog) -> list[tuple[Any, ...]]:
    """Events after loading: batches are made before the run, so their own rows are not compared."""
    rows = readable(log)
    first = next(index for index, row in enumerate(rows) if row[0] == "PHASE" and row[1] == "forward")
    return [row[:2] for row in rows[first:] if row[0] != "FREE"]


def test_a_long_sample_late_in_the_run_ends_it_there() -> None:
    log = traced_lengths(64, 64, 512)
    fits = replay(compose(log, (64, 64, 512), (64,) * 6))
    capacity = fits.peak_reserved_bytes + 4 * MIB
    late = replay(compose(log, (64, 64, 512), (64, 64, 64, 512, 64)), AllocatorSettings(capacity_bytes=capacity))
    assert late.out_of_memory is not None
    assert late.out_of_memory.step == 4


def test_what_was_not_traced_is_refused() -> None:
    log = traced_lengths(8, 8)
    with pytest.raises(UnsupportedError, match="no step of 9 tokens"):
        compose(log, (8, 8), (9,))
    with pytest.raises(UnsupportedError, match="one step per length"):
        compose(log, (8, 8, 8), (8,))


def test_lengths_are_rounded_up_to_a_few() -> None:
    assert nearest_lengths([5, 9, 5], 4) == {5: 5, 9: 9}
    rounded = nearest_lengths(list(range(1, 101)), 4)
    assert set(rounded.values()) == {25, 50, 75, 100}
    assert all(bound >= length for length, bound in rounded.items())


def test_lengths_of_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"length": 7}\n\n' + json.dumps({"input_ids": [1, 2, 3]}) + "\n")
    assert read_lengths(path) == (7, 3)
    for text, words in (
        ("", "no samples"),
        ("x", "line 1 is not JSON"),
        ('{"a": 1}', "line 1"),
        ('{"text": "x"}', "tokenizer"),
    ):
        path.write_text(text)
        with pytest.raises(RequestError) as refused:
            read_lengths(path)
        assert words in f"{refused.value.message} {refused.value.hint}"


def test_batches_pad_to_their_longest_and_packing_fills_all() -> None:
    batches = batch_lengths([10, 20, 90], batch_size=3, longest=64, num_steps=4, seed=0)
    assert batches == (64,) * 4
    assert set(batch_lengths([10, 20], batch_size=1, longest=64, num_steps=10, seed=1)) == {10, 20}
    assert batch_lengths([10], batch_size=1, longest=64, num_steps=3, seed=0, packing=True) == (64,) * 3
