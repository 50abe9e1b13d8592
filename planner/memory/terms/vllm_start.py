"""vLLM's start-up by version and GPU: the share it claims, its profile run, what it holds outside the allocator.

Letters: T tokens of the pass, R requests sampled at once, V vocabulary, d hidden size, f MLP width, k experts a
token meets, e bytes of the compute dtype. None as version is the newest.
"""

from __future__ import annotations

from dataclasses import dataclass

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.dtypes import element_bytes, weight_format
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int, ceil_div, maximum, minimum, where
from planner.memory.runtime import generation
from planner.memory.terms.serving_activations import mixer_widths, mlp_width
from planner.memory.terms.serving_engines import version_of
from planner.model.architecture import ModelArchitecture, MoeMlp
from planner.request import ServingWorkload
from planner.units import GIB, MIB

_GITHUB = "https://github.com/vllm-project/vllm/blob"
_PROFILE = Citation(
    title="vLLM: profile run over max_num_batched_tokens, then sampling of max_num_seqs",
    url=f"{_GITHUB}/main/vllm/v1/worker/gpu_model_runner.py",
)
_SAMPLER = Citation(
    title="vLLM: top-k and top-p sort the logits of every request, until 0.17 brought a kernel that does not",
    url=f"{_GITHUB}/main/vllm/v1/sample/ops/topk_topp_sampler.py",
)

SORTED_LOGIT_BYTES = 2 + 4 + (4 + 8) + 8 + (4 + 8)
"""Per logit while sampling sorts: 16-bit logit, fp32 copy, sorted values and int64 order, the int64 order sorted
along, and the radix sort's second buffers (torch's segmented sort over cub)."""
UNSORTED_LOGIT_BYTES = 2 + 4 + 4 + 4
"""16-bit logit, fp32 copy, probabilities and the exponential noise they are divided by."""
_TOP_K_PROGRAMS = 132
"""Rows of fp32 scratch the top-k kernel keeps, one per multiprocessor of an H100."""
_LARGE_GPU_BYTES = 70 * GIB
_V1 = (0, 8)
_UNSORTED_SINCE = (0, 17)
_GRAPHS_COUNTED_SINCE = (0, 21)
_LONG_CONTEXT = 32_768
"""Context from which the first engine cut prompts into chunks by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmStart:
    """What one version does at start-up on one GPU."""

    tokens: Int
    """Tokens of the profile run."""
    requests: Int
    """Requests sampled after it."""
    sorts_logits: bool
    keeps_expert_scratch: bool
    """The scratch of the experts is not given back before sampling."""
    graphs_in_pool: bool
    non_torch_bytes: int
    """Growth outside the allocator between start and profile run on one GPU, by the logs of vLLM 0.15 to 0.19 that
    https://github.com/llm-d-incubation/llm-d-planner/blob/main/accuracy/accuracy_report.md takes apart."""
    non_torch_tp_bytes: int


def vllm_start(architecture: ModelArchitecture, workload: ServingWorkload, gpu: Gpu | None) -> VllmStart:
    """The rules of ``workload.engine_version`` on ``gpu``."""
    version = version_of(workload.engine_version)
    first_engine = version is not None and version < _V1
    large = gpu is not None and gpu.memory_bytes >= _LARGE_GPU_BYTES and "a100" not in gpu.id.lower()
    tokens = workload.max_num_batched_tokens
    if tokens is None:
        tokens = _first_engine_tokens(architecture, workload, version) if version and first_engine else None
    if tokens is None:
        tokens = 8192 if large else 2048
    requests = workload.max_num_seqs
    if requests is None:
        requests = 1024 if large and not first_engine else 256
    hopper = generation(gpu) >= 9
    recent = version is None or version >= (0, 18)
    linked = gpu is not None and gpu.interconnect.nvlink_bytes_per_s is not None
    return VllmStart(
        tokens=tokens,
        requests=minimum(requests, tokens),
        sorts_logits=version is not None and version < _UNSORTED_SINCE,
        keeps_expert_scratch=version is None or version >= _UNSORTED_SINCE,
        graphs_in_pool=graphs_in_share(workload),
        non_torch_bytes=256 * MIB if recent and hopper else 133 * MIB if hopper else 80 * MIB,
        non_torch_tp_bytes=2120 * MIB if recent and hopper else 560 * MIB if hopper and linked else 310 * MIB,
    )


def default_share_percent(workload: ServingWorkload) -> int:
    """``gpu_memory_utilization`` where none is named: 0.9, and 0.92 since graphs are counted in.

    Source: https://docs.vllm.ai/en/latest/configuration/engine_args.html
    """
    return 92 if graphs_in_share(workload) else 90


def graphs_in_share(workload: ServingWorkload) -> bool:
    """Whether CUDA graphs are taken from the share; before 0.21 they came on top of it (its own log says so)."""
    version = version_of(workload.engine_version)
    return version is None or version >= _GRAPHS_COUNTED_SINCE


def _first_engine_tokens(
    architecture: ModelArchitecture, workload: ServingWorkload, version: tuple[int, ...]
) -> Int:
    """Before 0.8 a pass held one whole prompt; contexts above 32,768 were cut into chunks from 0.5.1 on."""
    named = workload.max_model_len
    length = (architecture.max_position_embeddings or 2048) if named is None else named
    if version < (0, 5, 1):
        return maximum(length, 2048)
    return where(length > _LONG_CONTEXT, 512 if version < (0, 6, 5) else 2048, maximum(length, 2048))


def profile_term(
    architecture: ModelArchitecture, workload: ServingWorkload, gpu: Gpu | None, tp: Int
) -> MemoryTerm:
    """Peak of the profile run: the largest layer over all batched tokens, or sampling after it."""
    start = vllm_start(architecture, workload, gpu)
    element = element_bytes(workload.compute_dtype)
    tokens, requests = start.tokens, start.requests
    d, vocab = architecture.hidden_size, architecture.vocab_size
    streams = where(tp > 1, 5, 4) if start.sorts_logits else 4
    layer: Int = 0
    experts: Int = 0
    for group in architecture.groups:
        query, key, _ = mixer_widths(group)
        mlp = 3 * ceil_div(mlp_width(group), tp)
        if isinstance(group.mlp, MoeMlp):
            scratch = _expert_scratch(group.mlp, d, tp)
            experts = maximum(experts, element * tokens * scratch)
            mlp = scratch
        attention = ceil_div(2 * query + 2 * key, tp)
        layer = maximum(layer, element * tokens * (streams * d + maximum(mlp, attention)))
    sampling: Int = 0
    if architecture.has_lm_head:
        each = SORTED_LOGIT_BYTES if start.sorts_logits else UNSORTED_LOGIT_BYTES
        scratch = 0 if start.sorts_logits else 4 * _TOP_K_PROGRAMS * vocab
        kept = experts if start.keeps_expert_scratch and _runs_on_triton(workload) else 0
        hidden = element * d * (tokens + 2 * requests)
        sampling = requests * vocab * each + scratch + hidden + kept
    peak = maximum(layer, sampling)
    return MemoryTerm(
        kind="activations",
        label="activation peak of the profile run",
        size_bytes=peak,
        low_bytes=peak * 2 // 3,
        high_bytes=peak * 27 // 20,
        formula="max(e × T × (4 d + 3 f / tp), R × V × b + e × (T + 2 R) × d)",
        inputs={"T": tokens, "R": requests, "V": vocab, "d": d, "layer": layer, "sampling": sampling},
        source=_SAMPLER if isinstance(peak, int) and peak == sampling else _PROFILE,
    )


def _expert_scratch(mlp: MoeMlp, hidden: int, tp: Int) -> Int:
    """Elements per token of the two buffers fused experts work in: gate and up, their product or the outputs."""
    width = ceil_div(mlp.moe_intermediate_size, tp)
    return mlp.num_experts_per_tok * (maximum(2 * width, hidden) + maximum(width, hidden))


def _runs_on_triton(workload: ServingWorkload) -> bool:
    """Packed 4-bit experts run on kernels with buffers of their own."""
    return weight_format(workload.weight_dtype).scheme in ("plain", "fp8", "int8")
