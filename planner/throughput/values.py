"""What a throughput answer holds: times with low, expected and high, and the parts they are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.citation import Citation


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A positive quantity with its likely lower and upper end. Fields are arrays in vectorised use."""

    low: float
    expected: float
    high: float

    def scaled(self, factor: float) -> Range:
        """The range multiplied by a positive ``factor``."""
        return Range(low=self.low * factor, expected=self.expected * factor, high=self.high * factor)

    def over(self, numerator: float) -> Range:
        """``numerator`` divided by the range: the fast end becomes the high one."""
        return Range(low=numerator / self.high, expected=numerator / self.expected, high=numerator / self.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePart:
    """One cause of time in a step or phase, in seconds on the busiest GPU."""

    kind: str
    """matmul, attention, elementwise, logits, dequantise, adapter, optimizer, host, communication, bubble…"""
    seconds: float
    formula: str
    source: Citation


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingThroughput:
    """One optimizer step and what follows from it."""

    step_time_s: Range
    tokens_per_step: int
    """Tokens of one optimizer step over all GPUs, padding included."""
    tokens_per_s: Range
    """Of the whole job."""
    num_gpus: int
    model_flops_per_token: float
    """Forward and backward work of the method without recomputation, causal attention."""
    mfu: float | None
    """Model FLOP/s over the dense peak of the compute dtype; None where no peak is known."""
    parts: tuple[TimePart, ...]
    """Causes of the step's time; they overlap, so their sum may exceed the step."""
    calibration: str | None = None
    """What measured runs it was corrected by; None: none."""

    @property
    def tokens_per_s_per_gpu(self) -> Range:
        return self.tokens_per_s.scaled(1 / self.num_gpus)

    @property
    def bound_by(self) -> str:
        """The kind of the largest part."""
        return max(self.parts, key=lambda part: part.seconds).kind

    def hours(self, tokens: float) -> Range:
        """Hours to train on ``tokens`` tokens (a dataset counts once per epoch)."""
        return self.tokens_per_s.over(tokens / 3600)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingThroughput:
    """``concurrency`` requests of one shape answered at once, in steady state."""

    ttft_s: Range
    """Time to first token of one request on an idle engine: its prefill."""
    tpot_s: Range
    """Time per output token of one request while ``concurrency`` decode together."""
    output_tokens_per_s: Range
    """All requests together, prefill time included."""
    tokens_per_s_per_user: Range
    """1 / time per output token."""
    prefill_tokens_per_s: Range
    concurrency: int
    num_gpus: int
    decode_parts: tuple[TimePart, ...]
    prefill_parts: tuple[TimePart, ...]
    calibration: str | None = None
    """What measured runs it was corrected by; None: none."""

    @property
    def bound_by(self) -> str:
        return max(self.decode_parts, key=lambda part: part.seconds).kind


Throughput = TrainingThroughput | ServingThroughput


@dataclass(slots=True)
class StepTime:
    """Parts in seconds (arrays in vectorised use), and the step they make."""

    parts: dict[str, float] = field(default_factory=dict)
    total_s: float = 0.0

    def add(self, kind: str, seconds: float) -> None:
        self.parts[kind] = self.parts.get(kind, 0.0) + seconds
