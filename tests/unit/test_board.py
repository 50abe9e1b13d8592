"""Every GPU at once says the same as each GPU asked for by name."""

from dataclasses import replace

import pytest

from hardware_db.catalog import all_gpus, find_gpu
from planner.board import board
from planner.errors import RequestError
from planner.fit import Verdict
from planner.memory import engine
from planner.memory.runtime import generation
from planner.model.registry import resolve
from planner.plan import plan_request
from planner.request import HardwareWish, Parallelism, PlanRequest, ServingWorkload, TrainingWorkload

REQUEST = PlanRequest(model="meta-llama/Llama-3.1-8B", workload=TrainingWorkload(method="full"))


WORKLOADS = {
    "full": TrainingWorkload(method="full"),
    "qlora": TrainingWorkload(method="qlora", weight_dtype="nf4-dq", seq_len=8192),
    "serve": ServingWorkload(),
    "vllm": ServingWorkload(engine="vllm"),
}


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("name", ["h100-sxm5-80gb", "a100-sxm4-40gb", "rtx-4090", "tesla-t4", "rtx-3060-12gb"])
def test_a_row_of_the_board_is_the_plan_of_that_gpu(name: str, workload: str) -> None:
    gpu = find_gpu(name)
    request = replace(REQUEST, workload=WORKLOADS[workload])
    found = board(request, (gpu,))
    placed = found.candidates[0].placement
    plan = plan_request(replace(request, hardware=HardwareWish(gpus=(gpu.id,))))
    own = [fit for fit in plan.fits if fit.estimate.tier == "analytic" and fit.verdict is not Verdict.DOES_NOT_FIT]
    if placed is None:
        assert not own
        assert found.fit(found.candidates[0]) is None
        return
    assert found.fit(found.candidates[0]) == own[0]
    estimate = own[0].estimate
    assert placed.size == (estimate.low_bytes, estimate.expected_bytes, estimate.high_bytes)
    assert (placed.num_gpus, placed.verdict) == (own[0].num_gpus, own[0].verdict)


def test_every_gpu_of_the_catalogue_has_a_row() -> None:
    rows = board(REQUEST).candidates
    assert [row.gpu.id for row in rows] == [gpu.id for gpu in all_gpus()]
    assert all((row.placement is None) == bool(row.why_not) for row in rows)


def test_a_size_alone_has_no_board() -> None:
    with pytest.raises(RequestError):
        board(PlanRequest(model="params:7B", workload=TrainingWorkload()))


def test_gpus_of_one_generation_have_equal_breakdowns() -> None:
    """What lets one estimate serve a whole generation."""
    model = resolve("meta-llama/Llama-3.2-1B").architecture
    assert model is not None
    seen: dict[int, object] = {}
    for gpu in all_gpus():
        found = engine.breakdown(model, TrainingWorkload(), Parallelism(), gpu)
        assert seen.setdefault(generation(gpu), found) == found
