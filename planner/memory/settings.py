"""From a request to the `Setting` its block programs run in: dtypes, kernels, sizes, what is trained."""

from __future__ import annotations

from hardware_db.gpu import Gpu
from planner.dtypes import ELEMENT_BYTES, WeightFormat, weight_format
from planner.memory.blocks.quirks import quirks
from planner.memory.blocks.setting import AdapterBranch, AttentionKernel, Setting
from planner.memory.frameworks import FrameworkTraits
from planner.memory.ops import Int, ceil_div
from planner.memory.sharding import Shares
from planner.memory.terms.adapters import LOW_RANK
from planner.memory.terms.adapters_rare import RARE
from planner.memory.terms.targets import is_target
from planner.memory.versions import (
    dequantises_to_fp16,
    litgpt_masks_attention,
    peft_follows_base,
    saves_quantised_inputs,
    t5_is_eager,
    year,
)
from planner.model.architecture import (
    GroupedQueryAttention,
    LatentAttention,
    Linear,
    ModelArchitecture,
)
from planner.request import TrainingWorkload


def build_setting(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    traits: FrameworkTraits,
    fmt: WeightFormat,
    share: Shares,
    gpu: Gpu | None,
) -> Setting:
    """Dtypes, kernels and sizes of the workload on one rank."""
    compute = "bf16" if workload.compute_dtype == "fp8" else workload.compute_dtype
    upcast = fmt.is_quantised and traits.upcasts_kbit_base and fmt.scheme == "bitsandbytes"
    base = "fp32" if upcast else (compute if fmt.is_quantised or traits.gathers_in_compute_dtype else fmt.name)
    stream = base
    norm_dtype = stream
    if workload.autocast and architecture.norm != "rmsnorm":
        norm_dtype = "fp32"
    full = workload.method == "full"
    matmul = compute if workload.autocast or fmt.is_quantised else base
    attended = compute if workload.autocast or not upcast else base
    kernel = attention_kernel(architecture, workload, traits, gpu, attended if fmt.is_quantised else matmul)
    checkpointed = workload.gradient_checkpointing != "none"
    family = quirks(architecture.model_type)
    dropped = 0.0 if traits.program == "litgpt" else family.dropout
    return Setting(
        batch=workload.batch_size,
        seq=ceil_div(_tokens(workload), share.cp),
        tp=share.tp,
        ep=share.ep,
        memory_seq=ceil_div(workload.seq_len, share.cp),
        dropout=dropped,
        inner_dropout=dropped if family.inner_dropout else 0.0,
        softmax_in_fp32=architecture.kind == "decoder" or family.biases_attention,
        stream_dtype=stream,
        norm_dtype=norm_dtype,
        compute_dtype=matmul,
        linear_dtype=None if fmt.scheme == "bitsandbytes" or not workload.autocast else compute,
        autocast=workload.autocast,
        casts_weights=workload.autocast and not fmt.is_quantised and ELEMENT_BYTES[base] > ELEMENT_BYTES[compute],
        weights_trained=full,
        norms_trained=full or workload.method in ("layernorm", "llama-adapter-v2"),
        gradient_bytes=ELEMENT_BYTES[base],
        prefix_tokens=workload.adapter.num_virtual_tokens if workload.method == "prefix-tuning" else 0,
        adapter=_branch(workload, traits, base, architecture.model_type),
        dequantised_element_bytes=_dequantised_bytes(workload, fmt),
        saves_quantised_inputs=fmt.scheme == "bitsandbytes" and saves_quantised_inputs(workload),
        loads_packed=fmt.scheme == "bitsandbytes",
        old_kernels=gpu is not None and gpu.compute_capability is not None and gpu.compute_capability < (8, 0),
        quantised_head=traits.quantises_head and fmt.is_quantised,
        attention=kernel,
        masked=workload.padding_mask or traits.masks_attention,
        biased=family.biases_attention,
        repeats_kv=_repeats_kv(workload, traits, kernel),
        caches_kv=(workload.use_cache or _caches_by_default(traits)) and not checkpointed,
        fused_norms=traits.program in ("torchtitan", "unsloth"),
        norm_weighs_in_fp32=(
            (year(workload) or 2024) < 2024 if traits.program == "litgpt" else family.weighs_norm_in_fp32
        ),
    )


def _caches_by_default(traits: FrameworkTraits) -> bool:
    if traits.caches_kv is not None:
        return traits.caches_kv
    return traits.keeps_outputs and traits.program == "transformers"


def _dequantised_bytes(workload: TrainingWorkload, fmt: WeightFormat) -> int:
    """Bytes per weight of the copy a quantised matmul makes.

    bitsandbytes before 0.43 quantised from fp16, so it dequantises to fp16 and copies again for bf16.
    """
    if not fmt.is_quantised:
        return 0
    size = ELEMENT_BYTES[workload.compute_dtype]
    twice = fmt.scheme == "bitsandbytes" and workload.compute_dtype == "bf16" and dequantises_to_fp16(workload)
    return 2 * size if twice else size


def _tokens(workload: TrainingWorkload) -> Int:
    if workload.method in ("prompt-tuning", "p-tuning"):
        return workload.seq_len + workload.adapter.num_virtual_tokens
    return workload.seq_len


def attention_kernel(
    architecture: ModelArchitecture,
    workload: TrainingWorkload,
    traits: FrameworkTraits,
    gpu: Gpu | None,
    dtype: str,
) -> AttentionKernel:
    """The kernel SDPA picks for queries in ``dtype``.

    Flash needs half precision, no mask and compute capability 8. The memory-efficient kernel shares no key/value
    heads, so wide grouped queries without a mask fall back to scores written out.
    """
    family = quirks(architecture.model_type)
    if workload.attention == "eager" or family.writes_out_attention:
        return "eager"
    if (family.biases_attention and t5_is_eager(workload)) or litgpt_masks_attention(workload):
        return "eager"
    if workload.attention.startswith("flash"):
        return "flash"
    capability = gpu.compute_capability if gpu is not None else None
    half = dtype in ("bf16", "fp16")
    masked = workload.padding_mask or traits.masks_attention or family.biases_attention
    latent = any(isinstance(group.mixer, LatentAttention) for group in architecture.groups)
    modern = capability is None or capability >= (8, 0)
    if half and modern and not masked and not latent:
        return "flash"
    grouped = any(
        isinstance(group.mixer, GroupedQueryAttention)
        and group.mixer.num_attention_heads != group.mixer.num_key_value_heads
        for group in architecture.groups
    )
    shares = grouped and not masked and not traits.repeats_kv and traits.program == "transformers"
    return "eager" if shares else "efficient"


def _repeats_kv(workload: TrainingWorkload, traits: FrameworkTraits, kernel: AttentionKernel) -> bool:
    if workload.attention.startswith("flash"):
        return traits.program in ("litgpt", "torchtitan")
    return traits.repeats_kv or kernel != "flash"


def _branch(
    workload: TrainingWorkload, traits: FrameworkTraits, base: str, model_type: str
) -> AdapterBranch | None:
    method, spec = workload.method, workload.adapter
    kinds = {"dora": "dora", "qdora": "dora", "ia3": "ia3", "vera": "vera", "llama-adapter-v2": "scale-shift"}
    kinds |= {name: name for name in RARE}
    kind = kinds.get(method, "lora" if method in LOW_RANK else None)
    if kind is None:
        return None
    everything = kind == "scale-shift"

    def applies(linear: Linear) -> bool:
        return everything or is_target(linear, spec.target_modules, model_type)

    return AdapterBranch(
        kind=kind,
        rank=spec.rank,
        dtype=adapter_dtype(workload, traits, base),
        dropout=traits.adapter_dropout if spec.dropout is None else spec.dropout,
        applies=applies,
    )


def adapter_dtype(workload: TrainingWorkload, traits: FrameworkTraits, base: str) -> str:
    """Dtype adapter weights are kept in.

    peft keeps them in fp32 since 0.12 (August 2024); before, they took the dtype of the floating-point weight
    they sit on. Source: https://github.com/huggingface/peft/releases/tag/v0.12.0
    """
    quantised = weight_format(workload.weight_dtype).is_quantised
    if traits.program == "transformers" and peft_follows_base(workload) and base in ("bf16", "fp16"):
        return workload.adapter.dtype if quantised else base
    if workload.adapter.dtype == "fp32" and quantised and traits.quantised_adapter_dtype:
        return traits.quantised_adapter_dtype
    if workload.adapter.dtype == "fp32" and traits.adapter_dtype:
        return base if traits.program == "litgpt" else traits.adapter_dtype
    return workload.adapter.dtype
