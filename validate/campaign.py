"""From a case to a stored measurement: predict, make sure of the device, run, compare, keep, learn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from planner.calibration import Calibration
from planner.calibration_file import DEFAULT_FILE, load, user_file
from planner.errors import EnvironmentProblemError, PlannerError
from planner.model.architecture import ModelArchitecture
from planner.quantity import Quantity, Tier
from planner.units import format_gib
from validate.calibrate import calibrate, save
from validate.compare import Comparison, Forecast, compare, forecast
from validate.matrix import Case
from validate.measure.environment import DeviceUse, Environment, detect, device_use, missing_libraries
from validate.measure.protocol import Progress, run
from validate.measure.spec import Device, RunSpec
from validate.measurement import Measurement, outermost, to_json
from validate.samples import gpu_of
from validate.store import Store
from validate.suites import spec_of

FITTING_SHARE = 0.92
"""Share of the free memory a suite's run may be predicted to need; what is predicted above is skipped."""
_FIRST_GUESS_S = 60.0
_FINAL = ("ok", "out of memory")
"""Outcomes that a later slice does not try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One finished run with everything said about it."""

    measurement: Measurement
    forecast: Forecast
    comparison: Comparison
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A case that was not run, and why; ``resumable`` where a later slice will run it."""

    name: str
    reason: str
    resumable: bool = False


@dataclass(slots=True, kw_only=True)
class Campaign:
    """Runs on one device, kept in one store and, where asked for, in files to share."""

    device: Device
    environment: Environment
    store: Store
    command: str
    calibration: Calibration
    uses_own: bool = True
    """False: intervals as shipped, and nothing learnt here is applied."""
    out: Path | None = None
    with_trace: bool = True
    silence_s: float = 300.0

    def measure(
        self,
        spec: RunSpec,
        architecture: ModelArchitecture,
        *,
        progress: Progress,
        predicted: Callable[[Forecast], None] = lambda forecast: None,
        time_limit_s: float | None = None,
    ) -> Measured:
        """Predict ``spec``, run it, keep the measurement and learn from it."""
        said = self.predict(spec, architecture)
        predicted(said)
        if spec.device == "cuda":
            ensure_free(said, spec)
        result = run(spec, progress=progress, silence_s=self.silence_s, time_limit_s=time_limit_s)
        measurement = Measurement(
            made_at=datetime.now(UTC).isoformat(timespec="microseconds"), command=self.command,
            environment=self.environment, spec=spec, result=result, predictions=said.predictions,
        ).identified()  # fmt: skip
        is_new = self.store.add(measurement)
        self._share(measurement)
        self.learn()
        return Measured(measurement=measurement, forecast=said, comparison=compare(said, result), is_new=is_new)

    def predict(
        self, spec: RunSpec, architecture: ModelArchitecture, *, with_trace: bool | None = None
    ) -> Forecast:
        """What every tier says of ``spec`` on this device."""
        return forecast(
            spec, architecture, self.environment, gpu_of(self.environment.gpu_id), self.calibration,
            with_trace=self.with_trace if with_trace is None else with_trace,
        )  # fmt: skip

    def _share(self, measurement: Measurement) -> None:
        if self.out is None:
            return
        path = self.out / f"{self.environment.gpu_id or 'unknown'}-{self.environment.fingerprint}.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(to_json(measurement) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise EnvironmentProblemError(f"{path} cannot be written: {error.strerror}") from error

    def learn(self) -> None:
        """Compute the user's calibration file anew from everything in the store."""
        learnt = calibrate(self.store.all(), load(DEFAULT_FILE))
        save(learnt, user_file())
        if self.uses_own:
            self.calibration = load()


def open_campaign(
    device: Device | None, *, store: Store, command: str, calibrated: bool, out: Path | None = None
) -> Campaign:
    """A campaign on ``device`` (None: the GPU) that also writes into the folder ``out``.

    Raises EnvironmentProblemError without a GPU or the libraries, or where the folder cannot be made.
    """
    chosen: Device = device or "cuda"
    missing = missing_libraries()
    if chosen == "cuda":
        environment = detect("cuda")
    if missing:
        raise EnvironmentProblemError(
            f"measuring needs {', '.join(missing)}",
            hint="pip install 'gpu-planner[validate]'; plan trace and plan estimate go without a GPU",
        )
    if chosen == "cpu":
        environment = detect("cpu")
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentProblemError(
                f"{out} cannot be made: {error.strerror}", hint="name another folder"
            ) from error
    return Campaign(
        device=chosen, environment=environment, store=store, command=command,
        calibration=load() if calibrated else load(DEFAULT_FILE), uses_own=calibrated, out=out,
    )  # fmt: skip


def ensure_free(said: Forecast, spec: RunSpec) -> None:
    """Refuse where other processes hold the memory the run is predicted to need."""
    needed = needed_bytes(said)
    if spec.memory_limit_bytes is not None:
        needed = min(needed, spec.memory_limit_bytes)
    refuse_taken(needed, device_use())


def refuse_taken(needed: int, use: DeviceUse) -> None:
    """Raise where ``needed`` bytes would fit an empty device but not this one, naming who holds the rest.

    What would not fit at all may run: running out of memory is a result.
    """
    if needed <= use.free_bytes or needed > use.total_bytes:
        return
    holders = sorted(use.processes, key=lambda process: -process[1])[:3]
    who = ", ".join(f"process {pid} ({format_gib(size)})" for pid, size in holders) or "others"
    raise EnvironmentProblemError(
        f"the run needs about {format_gib(needed)} and {format_gib(use.free_bytes)} of the GPU are free: "
        f"the rest is held by {who}",
        hint="wait or end them; --memory-limit tries with less",
    )


def needed_bytes(said: Forecast) -> int:
    """The largest expectation of the outermost counter that was predicted."""
    quantity = outermost(estimate.quantity for estimate in said.estimates)
    return max(estimate.expected_bytes for estimate in said.estimates if estimate.quantity is quantity)


def run_suite(
    campaign: Campaign,
    cases: Iterable[Case],
    *,
    progress: Callable[[Case, str], None],
    max_minutes: float | None = None,
    memory_limit_bytes: int | None = None,
) -> Iterator[tuple[Case, Measured | Skipped]]:
    """Run what the store does not hold yet for this exact environment, until the time is up.

    Every measurement is kept before the next case begins; a cut loses at most the run under way.
    """
    began = time.monotonic()
    deadline = None if max_minutes is None else began + 60 * max_minutes
    done = _done(campaign)
    longest = 0.0
    for case in cases:
        try:
            spec, architecture = spec_of(case, campaign.device, memory_limit_bytes)
        except PlannerError as error:
            yield case, Skipped(name=case.name, reason=error.message)
            continue
        if case.snapshot and campaign.device == "cuda" and campaign.out is not None:
            spec = replace(spec, snapshot=str(campaign.out / f"{case.name}.snapshot.pickle.gz"))
        if _key(spec) in done:
            yield case, Skipped(name=case.name, reason="measured before, in this environment")
            continue
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left < (longest or min(_FIRST_GUESS_S, 60 * (max_minutes or 0) / 2)):
            yield case, Skipped(name=case.name, reason="left for the next slice", resumable=True)
            continue
        started = time.monotonic()
        try:
            too_large = _too_large(campaign, spec, architecture)
            if too_large:
                yield case, Skipped(name=case.name, reason=too_large)
                continue
            told = partial(progress, case)
            yield case, campaign.measure(spec, architecture, progress=told, time_limit_s=left)
        except EnvironmentProblemError:
            raise
        except PlannerError as error:
            yield case, Skipped(name=case.name, reason=error.message)
        longest = max(longest, time.monotonic() - started)


def _too_large(campaign: Campaign, spec: RunSpec, architecture: ModelArchitecture) -> str | None:
    if spec.device != "cuda":
        return None
    free = device_use().free_bytes
    if spec.memory_limit_bytes is not None:
        free = min(free, spec.memory_limit_bytes)
    needed = needed_bytes(campaign.predict(spec, architecture, with_trace=False))
    if needed <= FITTING_SHARE * free:
        return None
    return f"needs about {format_gib(needed)} of the {format_gib(free)} that are free"


def _done(campaign: Campaign) -> set[str]:
    fingerprint = campaign.environment.fingerprint
    return {
        _key(measurement.spec)
        for measurement in campaign.store.all()
        if measurement.environment.fingerprint == fingerprint and measurement.result.outcome in _FINAL
    }


def _key(spec: RunSpec) -> str:
    from pydantic import TypeAdapter

    return TypeAdapter(RunSpec).dump_json(replace(spec, snapshot=None)).decode()


def headline(measured: Measured) -> tuple[Tier, Quantity, float] | None:
    """The best tier's error on the outermost counter, for one line about a run."""
    verdicts = measured.comparison.verdicts
    if not verdicts:
        return None
    quantity = outermost(verdict.prediction.quantity for verdict in verdicts)
    judged = [verdict for verdict in verdicts if verdict.prediction.quantity is quantity]
    best = max(judged, key=lambda verdict: verdict.prediction.tier == Tier.TRACE)
    return best.prediction.tier, best.prediction.quantity, best.error
