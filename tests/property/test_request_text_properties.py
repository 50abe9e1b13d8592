"""Any request is read back from its text to an equal value, as a file of its own and as a comment."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_type_hints

from hypothesis import given, settings
from hypothesis import strategies as st

from planner import vocabulary
from planner.request import (
    AdapterSpec,
    EvaluationSpec,
    HardwareWish,
    Parallelism,
    PlanRequest,
    ServingWorkload,
    TrainingWorkload,
)
from planner.request_text import comment, document, parse

WORDS = st.text(min_size=1, max_size=12).filter(str.strip)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(1, 3),
    int | None: st.none() | st.integers(1, 3),
    float | None: st.none() | st.floats(0.01, 0.99),
    Decimal | None: st.none() | st.decimals(Decimal("0.01"), 10_000, places=2),
    str: WORDS,
    str | None: st.none() | WORDS,
    bool: st.booleans(),
    tuple[str, ...]: st.lists(WORDS, max_size=3).map(tuple),
    tuple[str, ...] | str: WORDS | st.lists(WORDS, min_size=1, max_size=3).map(tuple),
}


def values(kind: type, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a dataclass: every field drawn by its type, but those that take certain words alone."""
    drawn = {name: BY_TYPE[hint] for name, hint in get_type_hints(kind).items() if name not in known}
    return st.builds(kind, **drawn, **known)


def one_of(choices: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(choices)


TRAINABLE = one_of(vocabulary.TRAINABLE_FORMATS)
TRAINING = values(
    TrainingWorkload,
    method=one_of(("full", "lora", "ia3")), weight_dtype=TRAINABLE, compute_dtype=one_of(("bf16", "fp16")),
    gradient_accumulation_dtype=st.none() | TRAINABLE, gradient_checkpointing=one_of(vocabulary.CHECKPOINTING),
    attention=one_of(vocabulary.ATTENTION), loss=one_of(vocabulary.LOSSES),
    objective=one_of(vocabulary.OBJECTIVES), optimizer=one_of(vocabulary.OPTIMIZERS),
    adapter=values(AdapterSpec, dtype=TRAINABLE), evaluation=st.none() | values(EvaluationSpec),
    use_vllm=st.just(False),
).filter(lambda workload: workload.num_epochs == 1 or workload.num_tokens is not None)  # fmt: skip
SERVING = values(
    ServingWorkload,
    compute_dtype=one_of(vocabulary.COMPUTE_DTYPES), kv_cache_dtype=one_of(vocabulary.KV_CACHE_DTYPES),
    attention=one_of(vocabulary.ATTENTION), engine=one_of(vocabulary.ENGINES), max_model_len=st.none(),
)  # fmt: skip
SPREAD = values(
    Parallelism,
    dp_shard=st.just(1), cpu_offload=one_of(vocabulary.CPU_OFFLOAD),
    pp_schedule=one_of(vocabulary.PIPELINE_SCHEDULES),
)  # fmt: skip
REQUESTS = values(
    PlanRequest,
    workload=TRAINING | SERVING, parallelism=st.none() | SPREAD, hardware=values(HardwareWish, num_gpus=st.none()),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(requests=st.lists(REQUESTS, min_size=1, max_size=3))
def test_requests_come_back_from_a_file(requests: list[PlanRequest]) -> None:
    assert parse(document(requests), "it") == tuple(requests)


@settings(max_examples=60, deadline=None)
@given(request=REQUESTS)
def test_a_request_comes_back_from_a_comment_of_one_line(request: PlanRequest) -> None:
    line = comment(request)
    assert line.splitlines() == [line]
    assert parse(f"a: 1\n{line}\nb: 2\n", "it") == (request,)
