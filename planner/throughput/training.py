"""Time of one optimizer step on the busiest GPU, cause by cause.

A micro-batch passes forward, once more forward where activations are recomputed, and backward: a gradient with
respect to the input of every layer, and with respect to the weights of trainable ones only. Work of the GPU and
of the host that launches it overlap, and so do work and communication up to a measured fraction.
"""

from __future__ import annotations

from planner.citation import Citation
from planner.dtypes import weight_format
from planner.memory.terms.objectives import objective_rule, with_objective
from planner.model.architecture import ModelArchitecture
from planner.request import Parallelism, TrainingWorkload
from planner.throughput import communication, kernels
from planner.throughput.constants import constant
from planner.throughput.device import Device
from planner.throughput.layer import ELEMENTWISE, Implementation, implementation_of, layer_shape
from planner.throughput.method import Passes, adapted, passes_of, trainable_params
from planner.throughput.micro_batch import add_head, add_layer
from planner.throughput.values import StepTime
from planner.vocabulary import FULL_METHODS

LORA = Citation(title="Hu et al. 2021: LoRA", url="https://arxiv.org/abs/2106.09685")
QLORA = Citation(title="Dettmers et al. 2023: QLoRA", url="https://arxiv.org/abs/2305.14314")
ZERO_OFFLOAD = Citation(title="Ren et al. 2021: ZeRO-Offload", url="https://arxiv.org/abs/2101.06840")
PIPELINE = Citation(
    title="Narayanan et al. 2021: pipeline bubble (p−1)/(v·m)", url="https://arxiv.org/abs/2104.04473"
)
OPTIMIZERS = Citation(
    title="torch.optim: foreach and fused implementations", url="https://docs.pytorch.org/docs/stable/optim.html"
)
_OPTIMIZER_PASSES = {
    "adamw": 15, "adamw-forloop": 19, "adamw-fused": 7, "paged-adamw": 7, "adamw-8bit": 5, "paged-adamw-8bit": 5,
    "sgd": 4, "sgd-momentum": 7, "adafactor": 12, "lion": 5, "lion-8bit": 4, "paged-lion-8bit": 4,
    "galore": 12, "muon": 12,
}  # fmt: skip
"""Element-sized reads and writes per parameter: fused Adam reads p, g, m, v and writes p, m, v."""
_MUON_ITERATIONS = 5


def step_time(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, device: Device
) -> StepTime:
    """Seconds of one optimizer step. Numeric fields of the workload, the degrees and the device may be arrays."""
    micro = StepTime()
    passes = passes_of(workload)
    workload = with_objective(workload, objective_rule(workload))
    tokens = workload.batch_size * workload.seq_len / parallelism.cp
    implementation = implementation_of(workload.framework, compiled=workload.compile)
    for group in architecture.groups:
        layers = group.count / parallelism.pp
        add_layer(micro, architecture, group, layers, workload, parallelism, device, passes, tokens)
    add_head(micro, architecture, workload, parallelism, device, passes, tokens)
    gpu_s = sum(micro.parts.values())
    host_s = _host_s(architecture, workload, parallelism, passes, implementation)
    micro.add("host", host_s)
    busy_s = kernels.joined(gpu_s, host_s)
    exposed_s = communication.tensor_parallel_s(architecture, parallelism, device, passes, tokens)
    exposed_s = exposed_s + communication.expert_parallel_s(architecture, parallelism, device, passes, tokens)
    ring_s = communication.context_parallel_s(architecture, workload, parallelism, device, passes)
    exposed_s = exposed_s + ring_s
    micro.add("communication", exposed_s)
    sharded_s = communication.sharded_data_parallel_s(architecture, workload, parallelism, device, passes)
    micro.add("communication", sharded_s)
    overlap = constant("overlap.nvlink") * device.has_nvlink + constant("overlap.pcie") * (1 - device.has_nvlink)
    micro_s = kernels.overlapped(busy_s + exposed_s, sharded_s, overlap)
    return _whole_step(architecture, workload, parallelism, device, micro, micro_s, overlap)


def _whole_step(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, device: Device,
    micro: StepTime, micro_s: float, overlap: float,
) -> StepTime:  # fmt: skip
    accumulated = workload.gradient_accumulation_steps
    microbatches = parallelism.num_microbatches or accumulated
    bubble = (parallelism.pp - 1) / (microbatches * parallelism.pp_virtual_stages)
    if parallelism.pp_schedule == "zero-bubble":
        bubble = bubble / 3
    step = StepTime(parts={kind: seconds * accumulated for kind, seconds in micro.parts.items()})
    work_s = micro_s * accumulated
    step.add("bubble", work_s * bubble)
    reduce_s = communication.gradient_reduction_s(architecture, workload, parallelism, device)
    step.add("communication", reduce_s)
    optimizer_s = _optimizer_s(architecture, workload, parallelism, device)
    step.add("optimizer", optimizer_s)
    last_s = micro_s + 0.0
    exposed_s = kernels.overlapped(last_s, reduce_s, overlap) - last_s
    fixed_s = constant("step_fixed_s")
    step.total_s = work_s * (1 + bubble) + exposed_s + optimizer_s + fixed_s
    return step


def _host_s(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, passes: Passes,
    implementation: Implementation,
) -> float:  # fmt: skip
    """Time the host needs to launch one micro-batch: Python, dispatcher and autograd, per kernel."""
    launches = 0.0
    quantised = weight_format(workload.weight_dtype).is_quantised
    for group in architecture.groups:
        shape = layer_shape(group, architecture.hidden_size, architecture.norm, implementation)
        per_layer = shape.launches
        for linear in group.linears:
            if quantised:
                per_layer = per_layer + 4
            if adapted(workload, linear):
                per_layer = per_layer + 6
        launches = launches + group.count / parallelism.pp * per_layer
    times = 1 + passes.forward + passes.recompute_linear
    return launches * times * 1e-6 * constant(f"host_us_per_launch.{implementation}")


def _optimizer_s(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, device: Device
) -> float:
    """Element passes over parameters, gradients and states this rank owns; clipping reads gradients twice more."""
    trained = trainable_params(architecture, workload) / (parallelism.tp * parallelism.pp)
    owned = trained / (parallelism.dp_shard * parallelism.cp)
    full = workload.method in FULL_METHODS
    dtype = workload.weight_dtype if full else workload.adapter.dtype
    element = 4.0 if dtype == "fp32" else 2.0
    if parallelism.cpu_offload != "none":
        touched = 28.0 * owned / constant("cpu_optimizer_bytes_per_s")
        moved = 2 * 2.0 * owned / device.host_link_bytes_per_s
        return touched + moved
    passes = _OPTIMIZER_PASSES.get(workload.optimizer, 15) + 3
    seconds = kernels.traffic_s(owned * element * passes, device)
    if workload.optimizer == "muon":
        flops = sum(
            group.count * linear.count * 2.0 * _MUON_ITERATIONS * 3
            * linear.in_features * linear.out_features * min(linear.in_features, linear.out_features)
            for group in architecture.groups for linear in group.linears
        )  # fmt: skip
        seconds = seconds + flops / (parallelism.tp * parallelism.pp) / device.matmul_flops_per_s("bf16")
    return seconds


def sources(parallelism: Parallelism) -> dict[str, Citation]:
    """Where each kind of part comes from."""
    return SOURCES | ({"optimizer": ZERO_OFFLOAD} if parallelism.cpu_offload != "none" else {})


def formulas(parallelism: Parallelism) -> dict[str, str]:
    """How each kind of part is computed."""
    offloaded = "owned parameters × (28 B / host bandwidth + 4 B / link)"
    return FORMULAS | ({"optimizer": offloaded} if parallelism.cpu_offload != "none" else {})


SOURCES = {
    "matmul": kernels.ROOFLINE,
    "attention": kernels.FLASH_ATTENTION,
    "elementwise": ELEMENTWISE,
    "logits": ELEMENTWISE,
    "dequantise": QLORA,
    "adapter": LORA,
    "host": ELEMENTWISE,
    "communication": kernels.NCCL,
    "bubble": PIPELINE,
    "optimizer": OPTIMIZERS,
}
FORMULAS = {
    "matmul": "passes × Σ 2·M·K·N / rate, at least bytes / bandwidth",
    "attention": "passes × 4·S/2·P·M / rate",
    "elementwise": "passes × bytes per token × M / bandwidth",
    "logits": "passes × 2·d·V·M / rate + bytes × M × V / bandwidth",
    "dequantise": "passes × weights × (bits/8 + 2) / bandwidth",
    "adapter": "passes × bytes per token × M / bandwidth + 2·r·(K+N)·M / rate",
    "host": "launches × time per launch, behind the GPU's work",
    "communication": "bytes × (n−1)/n / link, partly behind the GPU's work",
    "bubble": "work × (pp − 1) / (microbatches × virtual stages)",
    "optimizer": "element passes × owned parameters × bytes / bandwidth",
}
