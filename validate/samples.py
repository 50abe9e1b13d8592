"""Runs as calibration sees them: what was read and what the formulas say of it, part by part."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from hardware_db.gpu import Gpu
from planner.calibration import PARTS, Part, family, part_of
from planner.errors import PlannerError
from planner.memory.breakdown import MemoryBreakdown
from planner.model.hf_config import architecture_from_config
from planner.quantity import Quantity, Tier
from planner.target import Scope, Target
from validate.compare import analytic_breakdown, parts_measured, parts_predicted, request_of, target_of
from validate.measurement import Measurement, outermost

_SMALL_PART = 0.005
"""Share of the peak below which a part says nothing."""
_MAX_LOG = math.log(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run as calibration sees it."""

    target: Target
    task: str
    family: str
    model: str
    shape: str
    """Runs of equal shape repeat each other; they are held out together."""
    breakdown: MemoryBreakdown
    peaks: Mapping[Quantity, int]
    logs: Mapping[Part, float]
    """log(measured / predicted) of each part that is large enough to say something."""
    traced: Mapping[Quantity, float]
    """log(measured / traced) of each counter the trace predicted."""

    @property
    def judged(self) -> Quantity:
        """The outermost counter that was read."""
        return outermost(self.peaks)

    def key(self, scope: Scope) -> str:
        return self.target.key(scope)

    def expected(self, factors: Mapping[Part, float], quantity: Quantity) -> float:
        """The corrected peak of ``quantity``."""
        return max(
            sum(
                term.size_bytes * factors.get(part_of(term), 1.0)
                for term in phase.terms
                if quantity.includes(term.counts_in)
            )
            for phase in self.breakdown.phases
        )

    def residual(self, factors: Mapping[Part, float], quantity: Quantity) -> float:
        """log(measured / corrected)."""
        return math.log(self.peaks[quantity] / self.expected(factors, quantity))


def sample_of(measurement: Measurement, gpu: Gpu | None) -> Sample | None:
    """What a measurement teaches; None for one that failed or that the engine does not model."""
    spec, result = measurement.spec, measurement.result
    if result.outcome != "ok":
        return None
    try:
        architecture = architecture_from_config(spec.config, name=spec.model, source="measurement")
        memory = analytic_breakdown(spec, architecture, gpu)
    except PlannerError:
        return None
    peaks = {quantity: value for quantity in Quantity if (value := result.peak(quantity.value))}
    measured, predicted = parts_measured(result, memory), parts_predicted(memory)
    if not peaks or not measured:
        return None
    floor = _SMALL_PART * max(peaks.values())
    logs = {
        part: max(-_MAX_LOG, min(_MAX_LOG, math.log(measured[part] / predicted[part])))
        for part in PARTS
        if measured.get(part, 0) > floor and predicted[part] > floor
    }
    traced = {
        quantity: math.log(peaks[quantity] / prediction.expected_bytes)
        for quantity in peaks
        if (prediction := measurement.predicted(Tier.TRACE, quantity)) and prediction.expected_bytes
    }
    workload = asdict(spec.workload)
    model = json.dumps(spec.config, sort_keys=True, default=str)
    shape = model + json.dumps(workload, sort_keys=True, default=str)
    return Sample(
        target=target_of(measurement.environment), task=spec.task, family=family(request_of(spec)),
        model=model, shape=shape,
        breakdown=memory, peaks=peaks, logs=logs, traced=traced,
    )  # fmt: skip


def samples_of(measurements: Iterable[Measurement]) -> tuple[Sample, ...]:
    """The runs among ``measurements`` that calibration can use."""
    samples = (sample_of(measurement, gpu_of(measurement.environment.gpu_id)) for measurement in measurements)
    return tuple(sample for sample in samples if sample is not None)


def gpu_of(gpu_id: str | None) -> Gpu | None:
    """The catalogue's GPU; None for a CPU or an unknown card."""
    from hardware_db.catalog import UnknownGpuError, find_gpu

    if gpu_id is None or gpu_id == "cpu":
        return None
    try:
        return find_gpu(gpu_id)
    except UnknownGpuError:
        return None
