"""A step over several ranks: what a rank allocates alone on fake tensors is what it allocates among real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.errors import UnsupportedError
from planner.request import AdapterSpec, Parallelism, PlanRequest, TrainingWorkload
from tests.trace.ranks_of import Case, allocations, alone, beside_each_other, largest_sent_bytes
from tests.trace.steps_of import Config, readable, workload
from validate.trace.events import load
from validate.trace.replay import replay
from validate.trace.run import make_job

LLAMA: Config = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 201, "tie_word_embeddings": False,
}  # fmt: skip
TIED = LLAMA | {"tie_word_embeddings": True}
GPT2: Config = {
    "model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 200, "n_positions": 64,
}  # fmt: skip
MIXTRAL: Config = LLAMA | {"model_type": "mixtral", "num_hidden_layers": 2, "num_local_experts": 4}
FSDP, DDP = Parallelism(dp_shard=2), Parallelism(dp_replicate=2)
LORA = AdapterSpec(rank=4)


def case(config: Config, parallelism: Parallelism, **changes: Any) -> Case:
    return config, workload(**changes), parallelism


CASES: dict[str, Case] = {
    "fsdp": case(LLAMA, FSDP),
    "fsdp, kept after forward": case(LLAMA, Parallelism(dp_shard=2, zero_stage=2)),
    "fsdp, checkpointed": case(LLAMA, FSDP, gradient_checkpointing="full"),
    "fsdp, mixed precision": case(LLAMA, FSDP, weight_dtype="fp32", autocast=True),
    "fsdp, accumulated": case(LLAMA, FSDP, gradient_accumulation_steps=2),
    "fsdp, accumulated in mixed precision": case(
        LLAMA, FSDP, weight_dtype="fp32", autocast=True, gradient_accumulation_steps=2
    ),
    "fsdp, tied": case(TIED, FSDP),
    "fsdp, lora": case(LLAMA, FSDP, method="lora", adapter=LORA),
    "fsdp, lora, checkpointed": case(
        LLAMA, FSDP, method="lora", adapter=LORA, gradient_checkpointing="full"
    ),
    "fsdp, three ranks": case(LLAMA, Parallelism(dp_shard=3)),
    "fsdp, gpt2": case(GPT2, FSDP),
    "fsdp, mixtral": case(MIXTRAL, FSDP),
    "hsdp": case(LLAMA, Parallelism(dp_replicate=2, dp_shard=2)),
    "ddp": case(LLAMA, DDP),
    "ddp, autocast": case(LLAMA, DDP, weight_dtype="fp32", autocast=True),
    "ddp, accumulated": case(LLAMA, DDP, gradient_accumulation_steps=2),
    "ddp, lora": case(LLAMA, DDP, method="lora", adapter=LORA),
}  # fmt: skip
AMONG_OTHERS = (
    "fsdp, checkpointed", "fsdp, mixed precision", "fsdp, accumulated", "fsdp, lora", "ddp", "ddp, accumulated",
)  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_fake_and_real_tensors_give_a_rank_the_same_events(name: str) -> None:
    last = CASES[name][2].num_gpus - 1
    for rank in (0, last):
        assert readable(alone(CASES[name], rank, fake=True)) == readable(alone(CASES[name], rank, fake=False))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of the cases, run by two processes that talk to each other through gloo."""
    folder = tmp_path_factory.mktemp("ranks")
    beside_each_other({name: CASES[name] for name in AMONG_OTHERS}, folder)
    return folder


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", AMONG_OTHERS)
def test_a_rank_alone_allocates_what_it_allocates_beside_a_real_one(name: str, rank: int, logs: Path) -> None:
    here, there = alone(CASES[name], rank, fake=True), load(logs / f"{name}.{rank}")
    assert allocations(there) == allocations(here)
    more = replay(there).peak_requested_bytes - replay(here).peak_requested_bytes
    assert 0 <= more <= largest_sent_bytes(here)


@pytest.mark.parametrize(
    ("parallelism", "named"),
    [
        (Parallelism(tp=2), "tensor parallelism"),
        (Parallelism(dp_shard=2, zero_stage=1), "ZeRO stage 1"),
        (Parallelism(dp_shard=2, cpu_offload="optimizer"), "offload of the optimizer"),
        (Parallelism(pp=2), "pipeline parallelism"),
    ],
)
def test_other_spreads_are_refused_by_name(parallelism: Parallelism, named: str) -> None:
    request = PlanRequest(model="llama-1b", workload=TrainingWorkload(), parallelism=parallelism)
    with pytest.raises(UnsupportedError, match=named):
        make_job(request, None)
