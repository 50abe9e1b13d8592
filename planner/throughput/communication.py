"""Seconds of communication per parallel strategy, before any of it is hidden behind work."""

from __future__ import annotations

from planner.dtypes import weight_format
from planner.memory.ops import maximum
from planner.model.architecture import GroupedQueryAttention, ModelArchitecture, MoeMlp
from planner.request import Parallelism, TrainingWorkload
from planner.throughput import kernels
from planner.throughput.constants import constant
from planner.throughput.device import Device
from planner.throughput.method import Passes, trainable_params
from planner.vocabulary import FULL_METHODS


def sharded_data_parallel_s(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, device: Device,
    passes: Passes,
) -> float:  # fmt: skip
    """FSDP or ZeRO-3 traffic of one micro-batch: gather weights forward and backward, scatter gradients.

    ZeRO-1 and 2 leave the weights whole and reduce once per step.
    """
    if parallelism.zero_stage < 3:
        return 0.0  # offloaded parameters presuppose ZeRO-3
    ranks = parallelism.dp_shard * parallelism.cp
    weight = weight_format(workload.weight_dtype)
    stored = weight.bits / 8 if weight.is_quantised else 2.0
    held = architecture.params_total / (parallelism.tp * parallelism.pp)
    elsewhere = _experts_elsewhere(architecture, parallelism) / (parallelism.tp * parallelism.pp)
    gather_s = kernels.all_gather_s((held - elsewhere) * stored, ranks, device)
    offload_s = 0.0
    if parallelism.cpu_offload in ("parameters", "nvme"):
        offload_s = 2 * held * stored / ranks / device.host_link_bytes_per_s
    trained = _trained_here(architecture, workload, parallelism)
    scatter_s = kernels.all_gather_s(trained * 2.0, ranks, device)
    return (1 + passes.forward) * gather_s + scatter_s + offload_s


def _experts_elsewhere(architecture: ModelArchitecture, parallelism: Parallelism) -> float:
    """Parameters of experts that other expert-parallel ranks hold: neither gathered nor reduced here."""
    experts = sum(
        group.count * linear.num_params
        for group in architecture.groups
        for linear in group.linears
        if linear.role == "expert"
    )
    return experts * (1 - 1 / parallelism.ep)


def _trained_here(architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism) -> float:
    """Parameters whose gradients this rank exchanges."""
    trained = trainable_params(architecture, workload)
    if workload.method in FULL_METHODS and workload.method != "layernorm":
        trained = trained - _experts_elsewhere(architecture, parallelism)
    return trained / (parallelism.tp * parallelism.pp)


def gradient_reduction_s(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, device: Device
) -> float:
    """Once per step: all-reduce over replicas, and over shards where only optimizer states are sharded."""
    trained = _trained_here(architecture, workload, parallelism)
    element = 4.0 if workload.weight_dtype == "fp32" and not workload.autocast else 2.0
    if parallelism.zero_stage < 3:
        return kernels.all_reduce_s(trained * element, parallelism.dp_shard * parallelism.dp_replicate, device)
    return kernels.all_reduce_s(trained * element / parallelism.dp_shard, parallelism.dp_replicate, device)


def tensor_parallel_s(
    architecture: ModelArchitecture, parallelism: Parallelism, device: Device,
    passes: Passes, tokens: float,
) -> float:  # fmt: skip
    """Two all-reduces of the hidden states per layer and pass (as many bytes with sequence parallelism)."""
    size = 2.0 * tokens * architecture.hidden_size
    once = kernels.all_reduce_s(size, parallelism.tp, device)
    times = 2 * (passes.forward + passes.recompute_linear + passes.input_gradients)
    exposed = constant("tensor_parallel_exposed")
    return once * times * architecture.num_layers / parallelism.pp * exposed * (parallelism.tp > 1)


def expert_parallel_s(
    architecture: ModelArchitecture, parallelism: Parallelism, device: Device, passes: Passes, tokens: float
) -> float:
    """Dispatch and combine: every token crosses twice per pass and chosen expert (all-to-all)."""
    seconds = 0.0
    for group in architecture.groups:
        if not isinstance(group.mlp, MoeMlp):
            continue
        size = 2.0 * tokens * group.mlp.num_experts_per_tok * architecture.hidden_size
        inside = maximum(1, parallelism.ep / device.gpus_per_node)
        remote = (parallelism.ep - 1) / parallelism.ep
        across = 1 - 1 / inside
        link_s = size * remote * (1 - across) / device.link_bytes_per_s
        network_s = size * across / device.network_bytes_per_s
        times = 2 * (passes.forward + passes.recompute_linear + passes.input_gradients)
        seconds = seconds + group.count / parallelism.pp * times * (link_s + network_s)
    return seconds * constant("expert_parallel_exposed")


def context_parallel_s(
    architecture: ModelArchitecture, workload: TrainingWorkload, parallelism: Parallelism, device: Device,
    passes: Passes,
) -> float:  # fmt: skip
    """Keys and values of the whole sequence reach every rank, forward and backward (ring attention)."""
    seconds = 0.0
    for group in architecture.groups:
        mixer = group.mixer
        if not isinstance(mixer, GroupedQueryAttention):
            continue
        size = 4.0 * workload.batch_size * workload.seq_len * mixer.num_key_value_heads * mixer.head_dim
        once = kernels.all_gather_s(size / parallelism.tp, parallelism.cp, device)
        seconds = seconds + group.count / parallelism.pp * once * (passes.forward + passes.recompute_attention + 2)
    return seconds * constant("context_parallel_exposed") * (parallelism.cp > 1)
