"""Prediction beside measurement: per counter, per phase, and per part that a run can tell apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hardware_db.gpu import Gpu
from planner.calibration import PARTS, Calibration, Part, family, framework, part_of
from planner.errors import PlannerError
from planner.memory import engine
from planner.memory.breakdown import MemoryBreakdown, MemoryTerm
from planner.memory.estimate import Estimate
from planner.model.architecture import ModelArchitecture
from planner.quantity import Quantity, Tier
from planner.request import PlanRequest, TrainingWorkload
from planner.target import Target
from validate.measure.environment import Environment
from validate.measure.spec import RunResult, RunSpec
from validate.measurement import Prediction

if TYPE_CHECKING:
    from validate.trace import TraceResult

MEASURED_PHASE = {
    "loss backward": "backward",
    "end of backward": "backward",
    "optimizer": "optimizer step",
}
"""Moments the predictions tell apart within one phase that is measured as a whole."""
_CUDA_ONLY = ("cuBLAS", "CUDA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Everything said before a run."""

    estimates: tuple[Estimate, ...]
    """One per tier and counter the device has, calibrated."""
    breakdown: MemoryBreakdown
    """Of the analytic tier, uncalibrated."""
    notes: tuple[str, ...] = ()

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        return tuple(
            Prediction(
                tier=estimate.tier, quantity=estimate.quantity, low_bytes=estimate.low_bytes,
                expected_bytes=estimate.expected_bytes, high_bytes=estimate.high_bytes, phase=estimate.phase,
                calibrated=estimate.calibration is not None,
            )
            for estimate in self.estimates
        )  # fmt: skip


def quantities(device: str) -> tuple[Quantity, ...]:
    """Counters a device has, from the innermost out."""
    return tuple(Quantity) if device == "cuda" else (Quantity.ALLOCATED,)


def target_of(environment: Environment) -> Target:
    """Whom calibration should speak of, on this machine."""
    name = environment.gpu_name.removeprefix("NVIDIA ") if environment.device == "cuda" else "CPU"
    return Target(
        stack=environment.stack, gpu=environment.gpu_id or environment.gpu_name, generation=environment.generation,
        name=name,
    )  # fmt: skip


def request_of(spec: RunSpec) -> PlanRequest:
    """The request a run answers."""
    return PlanRequest(model=spec.model, workload=spec.workload, parallelism=spec.parallelism)


def forecast(
    spec: RunSpec,
    architecture: ModelArchitecture,
    environment: Environment,
    gpu: Gpu | None,
    calibration: Calibration | None,
    *,
    with_trace: bool = True,
) -> Forecast:
    """Predict a run, by formula and (for training) by trace. What a tier cannot do is noted, not raised."""
    memory = analytic_breakdown(spec, architecture, gpu)
    estimates = [estimate_of(spec, memory, quantity) for quantity in quantities(spec.device)]
    notes: list[str] = []
    if with_trace and isinstance(spec.workload, TrainingWorkload):
        try:
            estimates += _traced(spec, gpu)
        except PlannerError as error:
            notes.append(f"not traced: {error.message}")
    if calibration is not None:
        request, target = request_of(spec), target_of(environment)
        estimates = [
            calibration.apply_to(estimate, family(request), framework(request), target) for estimate in estimates
        ]
    return Forecast(estimates=tuple(estimates), breakdown=memory, notes=tuple(notes))


def analytic_breakdown(spec: RunSpec, architecture: ModelArchitecture, gpu: Gpu | None) -> MemoryBreakdown:
    """The engine's terms; on a CPU without what only CUDA has."""
    memory = engine.breakdown(architecture, spec.workload, spec.parallelism, gpu)
    if spec.device == "cuda":
        return memory
    return MemoryBreakdown(
        phases=tuple(
            replace(phase, terms=tuple(term for term in phase.terms if not _is_cuda_only(term)))
            for phase in memory.phases
        )
    )


def _is_cuda_only(term: MemoryTerm) -> bool:
    return term.counts_in is not Quantity.ALLOCATED or term.label.startswith(_CUDA_ONLY)


def estimate_of(spec: RunSpec, memory: MemoryBreakdown, quantity: Quantity) -> Estimate:
    """The analytic estimate of one counter."""
    peak = memory.peak_phase(quantity)
    return Estimate(
        task=spec.task, method=getattr(spec.workload, "method", "transformers"), tier=Tier.ANALYTIC,
        quantity=quantity, low_bytes=memory.low_bytes(quantity), expected_bytes=peak.size_bytes(quantity),
        high_bytes=memory.high_bytes(quantity), num_gpus=spec.parallelism.num_gpus, phase=peak.phase,
        terms=tuple(term for term in peak.terms if quantity.includes(term.counts_in)), breakdown=memory,
    )  # fmt: skip


def _traced(spec: RunSpec, gpu: Gpu | None) -> list[Estimate]:
    from validate.trace.child import run_in_subprocess
    from validate.trace.run import make_job, result_of

    job = replace(make_job(request_of(spec), gpu, num_steps=spec.steps), config=spec.config)
    if spec.lengths:
        job = replace(job, seq_lens=spec.lengths)
    if spec.device == "cpu":
        job = replace(job, device="cpu")
    result = result_of(run_in_subprocess(job, timeout_s=120, memory_bytes=6 * 1024**3))
    return [
        traced_estimate(spec, result, quantity)
        for quantity in quantities(spec.device)
        if quantity is not Quantity.DEVICE
    ]


def traced_estimate(spec: RunSpec, result: TraceResult, quantity: Quantity) -> Estimate:
    """A trace as an estimate: expandable segments are the low end of what is reserved, the default the rest."""
    expected = result.peak_bytes(quantity)
    return Estimate(
        task=spec.task, method=getattr(spec.workload, "method", "transformers"), tier=Tier.TRACE,
        quantity=quantity, low_bytes=min(expected, result.expandable.peak_bytes(quantity)),
        expected_bytes=expected, high_bytes=expected, num_gpus=spec.parallelism.num_gpus,
        phase=result.default.peak_phase, terms=(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One predicted and one measured number; None where one of them is not known."""

    name: str
    predicted_bytes: int | None
    measured_bytes: int | None

    @property
    def error(self) -> float | None:
        """predicted / measured - 1."""
        if not self.measured_bytes or self.predicted_bytes is None:
            return None
        return self.predicted_bytes / self.measured_bytes - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One prediction of the peak against its measurement."""

    prediction: Prediction
    measured_bytes: int

    @property
    def inside(self) -> bool:
        return self.prediction.low_bytes <= self.measured_bytes <= self.prediction.high_bytes

    @property
    def error(self) -> float:
        return self.prediction.expected_bytes / self.measured_bytes - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a run showed of its prediction."""

    verdicts: tuple[Verdict, ...]
    phases: tuple[Row, ...]
    parts: tuple[Row, ...]

    @property
    def inside(self) -> bool:
        """True where no measured peak left its interval."""
        return all(verdict.inside for verdict in self.verdicts)


def compare(forecast: Forecast, result: RunResult) -> Comparison:
    """Hold ``result`` against what was said before."""
    verdicts = tuple(
        Verdict(prediction=prediction, measured_bytes=measured)
        for prediction in forecast.predictions
        if (measured := result.peak(prediction.quantity.value)) is not None
    )
    measured_parts = parts_measured(result, forecast.breakdown)
    predicted_parts = parts_predicted(forecast.breakdown)
    return Comparison(
        verdicts=verdicts if result.outcome == "ok" else (),
        phases=tuple(_phase_rows(forecast.breakdown, result)) if result.outcome == "ok" else (),
        parts=tuple(
            Row(name=part, predicted_bytes=predicted_parts.get(part), measured_bytes=measured_parts.get(part))
            for part in PARTS
            if part in measured_parts
        ),
    )


def _phase_rows(memory: MemoryBreakdown, result: RunResult) -> Iterable[Row]:
    predicted: dict[str, int] = {}
    for phase in memory.phases:
        name = MEASURED_PHASE.get(phase.phase, phase.phase)
        predicted[name] = max(predicted.get(name, 0), phase.size_bytes(Quantity.ALLOCATED))
    measured = dict.fromkeys(reading.phase for reading in result.phases if reading.phase != "context")
    for name in measured:
        yield Row(name=name, predicted_bytes=predicted.get(name), measured_bytes=result.peak("allocated", name))


def parts_predicted(memory: MemoryBreakdown) -> dict[Part, int]:
    """The parts of the allocated peak, and what the outer counters add, as the formulas have them."""
    peak = memory.peak_phase(Quantity.ALLOCATED)
    sums: dict[Part, int] = dict.fromkeys(PARTS, 0)
    for term in peak.terms:
        sums[part_of(term)] += term.size_bytes
    return sums


def parts_measured(result: RunResult, memory: MemoryBreakdown) -> dict[Part, int]:
    """The same parts read from a run. States live at the peak are taken in the predicted proportion."""
    loaded = [reading.allocated_end_bytes for reading in result.phases if reading.phase == "load"]
    allocated, reserved = result.peak("allocated"), result.peak("reserved")
    if not loaded or allocated is None or result.outcome != "ok":
        return {}
    resident = loaded[-1]
    states = _states_measured(result, resident)
    live = round(states * _live_fraction(memory))
    parts: dict[Part, int] = {"resident": resident, "activations": max(0, allocated - resident - live)}
    if states:
        parts["states"] = live
    if reserved is not None:
        parts["slack"] = reserved - allocated
        device = result.peak("device")
        if device is not None:
            parts["context"] = device - reserved
    return parts


def _states_measured(result: RunResult, resident_bytes: int) -> int:
    """Optimizer states and gradients, from what is left at the ends of the last backward and optimizer phases."""
    ends: dict[str, int] = {reading.phase: reading.allocated_end_bytes for reading in result.phases}
    if "optimizer step" not in ends:
        return 0
    optimizer = max(0, ends["optimizer step"] - resident_bytes)
    gradients = max(0, ends.get("backward", 0) - ends["optimizer step"])
    return optimizer + gradients


def _live_fraction(memory: MemoryBreakdown) -> float:
    """Share of the states (as predicted) that are live in the phase of the peak."""

    def states(terms: Iterable[MemoryTerm]) -> int:
        return sum(term.size_bytes for term in terms if part_of(term) == "states")

    most = max(states(phase.terms) for phase in memory.phases)
    return states(memory.peak_phase(Quantity.ALLOCATED).terms) / most if most else 0.0
