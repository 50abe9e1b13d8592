"""On a real GPU: the protocol's counters, running out of memory, and predictions within their intervals."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import EnvironmentProblemError
from planner.request import ServingWorkload, TrainingWorkload
from planner.units import GIB
from validate.campaign import open_campaign
from validate.matrix import LLAMA_1B, Case
from validate.measure.environment import device_use
from validate.measure.protocol import run, run_probes
from validate.store import Store
from validate.suites import spec_of


def has_gpu() -> bool:
    try:
        return device_use().total_bytes > 0
    except EnvironmentProblemError:
        return False


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_gpu(), reason="no NVIDIA GPU")]


def case(workload: TrainingWorkload | ServingWorkload) -> Case:
    return Case(name="gpu-test", model=LLAMA_1B, workload=workload, steps=2)


@pytest.mark.parametrize(
    "workload",
    [
        TrainingWorkload(method="lora", seq_len=512),
        TrainingWorkload(method="qlora", weight_dtype="nf4-dq", seq_len=512),
        ServingWorkload(prompt_tokens=512, output_tokens=16),
    ],
)
def test_measured_peaks_lie_in_their_intervals(
    workload: TrainingWorkload | ServingWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPU_PLANNER_CALIBRATION", str(tmp_path / "calibration.json"))
    campaign = open_campaign("cuda", store=Store(tmp_path / "s.sqlite3"), command="test", calibrated=False)
    spec, architecture = spec_of(case(workload), "cuda")
    measured = campaign.measure(spec, architecture, progress=lambda text: None)
    result = measured.measurement.result
    assert result.outcome == "ok", result.detail
    allocated, reserved, device = (result.peak(name) or 0 for name in ("allocated", "reserved", "device"))
    assert 0 < allocated <= reserved < device
    assert measured.comparison.inside


def test_running_out_of_memory_is_a_result_with_a_parsed_message() -> None:
    spec, _ = spec_of(case(TrainingWorkload(method="full", batch_size=8, seq_len=4096)), "cuda", 4 * GIB)
    result = run(spec)
    assert result.outcome == "out of memory"
    assert "CUDA out of memory" in result.detail


def test_probes_answer() -> None:
    found = run_probes("cuda")
    failed = {name: value for name, value in found.items() if isinstance(value, dict) and "failed" in value}
    assert failed == {}
    assert found["context_bytes"]["with_libraries"] >= found["context_bytes"]["context"] > 0
    for row in found["allocator"]:
        assert row["block_bytes"] % 512 == 0
        assert row["segment_bytes"] >= row["block_bytes"] >= row["requested_bytes"]
