"""Every exported plan is read back as the request it came from, whatever the request."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.errors import PlannerError
from planner.export import TARGETS, export
from planner.export.chosen import choose
from planner.request import AdapterSpec, HardwareWish, Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from planner.request_text import parse
from planner.vocabulary import CPU_OFFLOAD, KV_CACHE_DTYPES, LOSSES, OPTIMIZERS

trained = st.builds(
    TrainingWorkload,
    method=st.sampled_from(["full", "lora", "qlora", "dora", "rslora", "ia3"]),
    weight_dtype=st.sampled_from(["bf16", "fp32", "nf4", "nf4-dq", "int8"]),
    batch_size=st.integers(1, 64), seq_len=st.integers(16, 32768), loss=st.sampled_from(LOSSES),
    optimizer=st.sampled_from(OPTIMIZERS), gradient_checkpointing=st.sampled_from(["none", "full"]),
    num_tokens=st.none() | st.integers(1, 10**12), compile=st.booleans(),
    adapter=st.builds(
        AdapterSpec, rank=st.integers(1, 256), dropout=st.none() | st.floats(0.0, 0.5),
        target_modules=st.just("all-linear") | st.just(("q_proj", "v_proj")),
    ),
)  # fmt: skip
served = st.builds(
    ServingWorkload,
    engine=st.sampled_from(["vllm", "sglang"]), concurrency=st.integers(1, 512),
    weight_dtype=st.sampled_from(["bf16", "fp8", "awq-int4", "nf4", "gguf-q4_0"]),
    kv_cache_dtype=st.sampled_from(KV_CACHE_DTYPES), prompt_tokens=st.integers(1, 8192),
    gpu_memory_utilization=st.none() | st.floats(0.5, 0.95), cuda_graphs=st.booleans(),
)  # fmt: skip
spreads = st.none() | st.builds(
    Parallelism,
    dp_replicate=st.sampled_from([1, 2]), dp_shard=st.sampled_from([1, 2, 4]), tp=st.sampled_from([1, 2]),
    zero_stage=st.sampled_from([1, 2, 3]), cpu_offload=st.sampled_from(CPU_OFFLOAD),
)  # fmt: skip
wishes = st.builds(
    HardwareWish,
    gpus=st.sampled_from(["h100", "a100-sxm4-80gb", "l4"]).map(lambda name: (name,)),
    num_gpus=st.none() | st.sampled_from([1, 2, 8, 16]), spot=st.booleans(),
    max_usd_per_hour=st.none() | st.decimals(1, 1000, places=2),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    workload=trained | served,  # type: ignore[operator]
    spread=spreads, wish=wishes, target=st.sampled_from(TARGETS),
)  # fmt: skip
def test_every_exported_plan_is_read_back_as_its_request(
    workload: TrainingWorkload | ServingWorkload, spread: Parallelism | None, wish: HardwareWish, target: str
) -> None:
    request = PlanRequest(model="meta-llama/Llama-3.1-8B", workload=workload, parallelism=spread, hardware=wish)
    if spread is not None:
        request = replace(request, hardware=replace(wish, num_gpus=None))
    try:
        files = export(request, target)
    except PlannerError:
        return  # refused by name: nothing is written that could be misread
    assert files
    settled = choose(request).request
    assert settled.workload == workload
    assert settled.hardware.max_usd_per_hour == wish.max_usd_per_hour
    assert isinstance(settled.hardware.max_usd_per_hour, Decimal | None)
    for text in files.values():
        assert parse(text, "it") == (settled,)
        assert export(parse(text, "it")[0], target) == files
