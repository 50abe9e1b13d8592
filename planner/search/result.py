"""What a search answers with: candidates as requests with their price and time, and why others failed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hardware_db.gpu import Gpu
from hardware_db.offer import Offer
from planner.fit import Verdict
from planner.request import HardwareWish, Parallelism, PlanRequest, TrainingWorkload
from planner.search.axes import Workload

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to do the job."""

    gpu: Gpu
    num_gpus: int
    small_machines: bool
    """True where the GPUs come as machines of less than eight, joined by an ordinary network."""
    offer: Offer | None
    num_instances: int
    workload: Workload
    parallelism: Parallelism
    verdict: Verdict
    expected_bytes: int
    high_bytes: int
    seconds_per_step: float
    """Optimizer step in training, decode step in serving."""
    tokens_per_s: float
    hours: float | None
    """Of the whole job; None where no number of tokens was given."""
    usd: Decimal | None
    usd_per_hour: Decimal | None
    usd_per_million_tokens: Decimal | None

    @property
    def headroom_bytes(self) -> int:
        return self.gpu.memory_bytes - self.expected_bytes

    def request(self, model: str) -> PlanRequest:
        """The candidate as a request of its own."""
        wish = HardwareWish(gpus=(self.gpu.id,), num_gpus=self.num_gpus)
        return PlanRequest(model=model, workload=self.workload, parallelism=self.parallelism, hardware=wish)

    def row(self) -> dict[str, Any]:
        """One flat record, for tables, CSV and data frames."""
        spread = self.parallelism
        shared: dict[str, Any] = {
            "gpu": self.gpu.id,
            "num_gpus": self.num_gpus,
            "provider": self.offer.provider if self.offer else None,
            "instance_type": self.offer.instance_type if self.offer else None,
            "region": self.offer.region if self.offer else None,
            "num_instances": self.num_instances,
            "small_machines": self.small_machines,
            "usd_per_hour": _float(self.usd_per_hour),
            "usd": _float(self.usd),
            "usd_per_million_tokens": _float(self.usd_per_million_tokens),
            "hours": self.hours,
            "tokens_per_s": self.tokens_per_s,
            "seconds_per_step": self.seconds_per_step,
            "verdict": self.verdict.value,
            "expected_bytes": self.expected_bytes,
            "high_bytes": self.high_bytes,
            "headroom_bytes": self.headroom_bytes,
            "price_as_of": self.offer.as_of.isoformat() if self.offer and self.offer.as_of else None,
            "weight_dtype": self.workload.weight_dtype,
            "dp_replicate": spread.dp_replicate, "dp_shard": spread.dp_shard, "zero_stage": spread.zero_stage,
            "tp": spread.tp, "pp": spread.pp, "cp": spread.cp, "ep": spread.ep, "cpu_offload": spread.cpu_offload,
        }  # fmt: skip
        if isinstance(self.workload, TrainingWorkload):
            return shared | {
                "method": self.workload.method,
                "batch_size": self.workload.batch_size,
                "gradient_accumulation_steps": self.workload.gradient_accumulation_steps,
                "gradient_checkpointing": self.workload.gradient_checkpointing,
                "optimizer": self.workload.optimizer,
                "attention": self.workload.attention,
                "loss": self.workload.loss,
            }
        return shared | {
            "engine": self.workload.engine,
            "concurrency": self.workload.concurrency,
            "kv_cache_dtype": self.workload.kv_cache_dtype,
            "context_tokens": self.workload.context_tokens,
        }


def _float(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """The candidate that fails one limit by the least, and by how much."""

    kind: str
    """memory, price, hours, "price and hours"."""
    candidate: Candidate
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Everything a search found."""

    request: PlanRequest
    objective: str
    candidates: tuple[Candidate, ...]
    """The best of every kind of GPU, machine and count, best first."""
    pareto: tuple[Candidate, ...]
    """Candidates that nothing beats in both time and money, cheapest first."""
    near_misses: tuple[NearMiss, ...]
    num_candidates: int
    num_feasible: int
    notes: tuple[str, ...]

    @property
    def best(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None

    def to_frame(self) -> pandas.DataFrame:
        """The ranked candidates as a data frame, one row each; ``pareto`` marks the front."""
        import pandas

        front = set(self.pareto_keys())
        rows = [candidate.row() | {"pareto": _key(candidate) in front} for candidate in self.candidates]
        return pandas.DataFrame(rows)

    def pareto_keys(self) -> tuple[object, ...]:
        return tuple(_key(candidate) for candidate in self.pareto)

    def limited(self, top: int) -> SearchResult:
        """The same with at most ``top`` ranked candidates."""
        return replace(self, candidates=self.candidates[:top])


def _key(candidate: Candidate) -> object:
    return candidate.gpu.id, candidate.num_gpus, candidate.num_instances, candidate.workload, candidate.parallelism
