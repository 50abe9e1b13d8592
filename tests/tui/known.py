"""The app on known answers: six GPUs, prices of one day, and a memory formula simple enough to check by eye."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from hardware_db.gpu import Gpu, Interconnect
from hardware_db.offer import Offer
from planner.board import Board, Candidate, Placement
from planner.citation import Citation
from planner.errors import RequestError
from planner.fit import Fit, Size, fit_of, verdict
from planner.memory.breakdown import MemoryBreakdown, MemoryTerm, PhaseBreakdown
from planner.memory.estimate import Estimate
from planner.model.architecture import ModelArchitecture
from planner.model.registry import resolve
from planner.quantity import Quantity, Tier
from planner.rental import cheapest_rental
from planner.request import HardwareWish, Parallelism, PlanRequest, ServingWorkload, TrainingWorkload
from planner.throughput import Range, ServingThroughput, Throughput, TrainingThroughput
from planner.units import GIB, MIB
from tui.app.app import PlannerApp
from tui.app.desk import Desk
from tui.app.local_gpus import LocalGpu, LocalGpus
from tui.app.world import World

TODAY = date(2026, 11, 20)
SOURCE = Citation(title="A known answer", url="https://example.com/known")
CARDS = (
    ("l4", "L4", 23034, "0.80"),
    ("rtx-4090", "RTX 4090", 24564, "0.69"),
    ("a100-sxm4-40gb", "A100 SXM4 40GB", 40960, "1.29"),
    ("a100-sxm4-80gb", "A100 SXM4 80GB", 81920, "1.89"),
    ("h100-sxm5-80gb", "H100 SXM5 80GB", 81559, "2.99"),
    ("mi300x", "MI300X", 196592, None),
)
REQUEST = PlanRequest(model="meta-llama/Llama-3.1-8B", workload=TrainingWorkload())


def known_gpu(gpu_id: str, name: str, mib: int) -> Gpu:
    return Gpu(
        id=gpu_id, name=name, aliases=(), vendor="AMD" if gpu_id == "mi300x" else "NVIDIA", architecture="Hopper",
        compute_capability=(9, 0), is_cuda=True, release="2023-01", memory_gb=mib / 1000, memory_bytes=mib * MIB,
        memory_bytes_derived=False, memory_type="HBM3", bandwidth_bytes_per_s=3_350_000_000_000,
        dense_flops_per_s={}, supports_bf16=True,
        interconnect=Interconnect(nvlink_bytes_per_s=900_000_000_000, pcie_generation=5.0, pcie_lanes=16),
        tdp_w=700, form_factor="SXM5", buy_prices=(), sources={}, unverified=frozenset(), notes="",
    )  # fmt: skip


def known_offers(gpu_id: str, usd: str | None) -> tuple[Offer, ...]:
    if usd is None:
        return ()
    return tuple(
        Offer(
            provider="somecloud", instance_type=f"{n}x{gpu_id}", gpu_id=gpu_id, num_gpus=n, region="eu",
            usd_per_hour=Decimal(usd) * n, spot=False, as_of=date(2026, 11, 1), as_of_text="2026-11-01",
            source="a price list", note="", quarantined=None,
        )
        for n in (1, 2, 4, 8)
    )  # fmt: skip


def _term(kind: str, label: str, size_bytes: int, counts_in: Quantity = Quantity.ALLOCATED) -> MemoryTerm:
    return MemoryTerm(
        kind=kind, label=label, size_bytes=size_bytes, formula="P × 2", inputs={"P": size_bytes // 2},
        source=SOURCE, counts_in=counts_in,
    )  # fmt: skip


def known_estimate(request: PlanRequest, num_gpus: int) -> Estimate:
    """15 GiB of weights cut over the GPUs, 1 MiB per token, half a GiB of context."""
    workload = request.workload
    if isinstance(workload, TrainingWorkload):
        tokens, method, phase = workload.batch_size * workload.seq_len, workload.method, "backward"
    else:
        tokens, method, phase = workload.concurrency * workload.context_tokens, workload.engine, "decode"
    context = _term("context", "CUDA context", GIB // 2, Quantity.DEVICE)
    weights = _term("weights", "weights", 15 * GIB // num_gpus)
    activations = _term("activations", "activations", tokens * MIB)
    phases = (
        PhaseBreakdown(phase="load", terms=(weights, context)),
        PhaseBreakdown(phase=phase, terms=(weights, activations, context)),
    )
    memory = MemoryBreakdown(phases=phases)
    size = phases[1].size_bytes(Quantity.DEVICE)
    return Estimate(
        task=request.task, method=method, tier=Tier.ANALYTIC, quantity=Quantity.DEVICE, low_bytes=size * 9 // 10,
        expected_bytes=size, high_bytes=size * 11 // 10, num_gpus=num_gpus, phase=phase, terms=phases[1].terms,
        breakdown=memory,
    )  # fmt: skip


def known_board(request: PlanRequest, gpus: Sequence[Gpu] | None) -> Board:
    """Every known card in the smallest of 1, 2, 4, 8 that holds the expectation."""
    model = resolve(request.model).architecture
    if model is None:
        raise RequestError(f"{request.model} is a size alone", hint="name a model")
    prices = {gpu_id: usd for gpu_id, _, _, usd in CARDS}

    def placed(gpu: Gpu) -> Candidate:
        for count in (1, 2, 4, 8):
            estimate = known_estimate(request, count)
            if estimate.expected_bytes <= gpu.memory_bytes:
                return Candidate(
                    gpu=gpu,
                    placement=Placement(
                        num_gpus=count,
                        parallelism=Parallelism(dp_shard=count)
                        if request.task == "train"
                        else Parallelism(tp=count),
                        verdict=verdict(estimate, gpu),
                        size=Size(estimate.low_bytes, estimate.expected_bytes, estimate.high_bytes),
                        rental=cheapest_rental(known_offers(gpu.id, prices.get(gpu.id)), count, HardwareWish()),
                    ),
                    why_not="",
                )
        return Candidate(gpu=gpu, placement=None, why_not="too much on every rank")

    def fit(candidate: Candidate) -> Fit | None:
        if candidate.placement is None:
            return None
        spread = candidate.placement.parallelism
        estimate = known_estimate(request, spread.num_gpus)
        return fit_of(estimate, candidate.gpu, spread, offers=(), wish=HardwareWish())

    kinds = gpus or [known_gpu(*card[:3]) for card in CARDS]
    candidates = tuple(placed(gpu) for gpu in kinds)
    return Board(request=request, model=model, candidates=candidates, notes=(), fit=fit)


def known_speed(
    architecture: ModelArchitecture, workload: TrainingWorkload | ServingWorkload, parallelism: Parallelism,
    gpu: Gpu, *, calibrated: bool,
) -> Throughput:  # fmt: skip
    """100 tokens a second for each GiB of the card, a tenth off and on."""
    expected = 100.0 * parallelism.num_gpus * (gpu.memory_bytes // GIB)
    rate = Range(low=expected * 0.9, expected=expected, high=expected * 1.1)
    second = Range(low=1.0, expected=1.0, high=1.0)
    if isinstance(workload, TrainingWorkload):
        return TrainingThroughput(
            step_time_s=second, tokens_per_step=round(expected), tokens_per_s=rate, num_gpus=parallelism.num_gpus,
            model_flops_per_token=1.0, mfu=None, parts=(),
        )  # fmt: skip
    return ServingThroughput(
        ttft_s=second, tpot_s=second, output_tokens_per_s=rate, tokens_per_s_per_user=rate,
        prefill_tokens_per_s=rate, concurrency=workload.concurrency, num_gpus=parallelism.num_gpus,
        decode_parts=(), prefill_parts=(),
    )  # fmt: skip


def known_world(local: tuple[LocalGpu, ...] = ()) -> World:
    prices = {gpu_id: usd for gpu_id, _, _, usd in CARDS}
    return World(
        today=lambda: TODAY,
        probe=lambda: LocalGpus(gpus=local, missing="" if local else "no NVIDIA driver is installed"),
        ask=known_board,
        offers_of=lambda gpu_id: known_offers(gpu_id, prices.get(gpu_id)),
        speed_of=known_speed,
    )


def known_app(request: PlanRequest = REQUEST, local: tuple[LocalGpu, ...] = ()) -> PlannerApp:
    return PlannerApp(Desk(request, known_world(local)))
