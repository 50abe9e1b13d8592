"""Parameters a fine-tuning method trains, counted exactly, and the bytes of those it adds.

Letters: r rank, n input and m output features of a matrix, L layers, d hidden size, t virtual tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.citation import Citation
from planner.dtypes import ELEMENT_BYTES
from planner.errors import UnsupportedError
from planner.memory.breakdown import MemoryTerm
from planner.memory.ops import Int
from planner.memory.terms.adapters_rare import RARE, RareMethod
from planner.memory.terms.targets import targets
from planner.model.architecture import GroupedQueryAttention, LayerGroup, Linear, ModelArchitecture
from planner.request import AdapterSpec

_LORA = Citation(title="LoRA", url="https://arxiv.org/abs/2106.09685")
_DORA = Citation(title="DoRA", url="https://arxiv.org/abs/2402.09353")
_ADALORA = Citation(title="AdaLoRA", url="https://arxiv.org/abs/2303.10512")
_IA3 = Citation(title="(IA)3", url="https://arxiv.org/abs/2205.05638")
_VERA = Citation(title="VeRA", url="https://arxiv.org/abs/2310.11454")
_PROMPT = Citation(title="Prompt tuning", url="https://arxiv.org/abs/2104.08691")
_PREFIX = Citation(title="Prefix tuning", url="https://arxiv.org/abs/2101.00190")
_PTUNING = Citation(title="P-tuning", url="https://arxiv.org/abs/2103.10385")
_BOTTLENECK = Citation(title="Bottleneck adapters", url="https://arxiv.org/abs/1902.00751")
_LAYERNORM = Citation(title="LayerNorm tuning", url="https://arxiv.org/abs/2312.11420")
_LLAMA_ADAPTER = Citation(title="LLaMA-Adapter", url="https://arxiv.org/abs/2303.16199")
_LLAMA_ADAPTER_V2 = Citation(title="LLaMA-Adapter V2", url="https://arxiv.org/abs/2304.15010")
_FULL = Citation(title="every parameter is trained", url="https://github.com/huggingface/transformers")
_MEZO = Citation(title="MeZO", url="https://arxiv.org/abs/2305.17333")

LOW_RANK = frozenset({"lora", "qlora", "rslora", "pissa", "lora+", "dora", "qdora", "adalora"})
METHODS = (
    *sorted(LOW_RANK), *RARE, "full", "mezo", "vera", "ia3", "prompt-tuning", "prefix-tuning", "p-tuning",
    "bottleneck", "layernorm", "adaption-prompt", "llama-adapter-v2",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a method trains. ``added`` parameters come on top of the model, ``base`` ones are the model's own."""

    added: Int
    base: Int
    frozen_added: Int
    """Parameters the method adds but never trains: VeRA's shared projections."""
    saved_copies: Int
    """Whole modules copied by ``modules_to_save``: the original stays in memory beside the trained copy."""
    formula: str
    source: Citation

    @property
    def trainable(self) -> Int:
        return self.added + self.base + self.saved_copies


def trained(architecture: ModelArchitecture, method: str, spec: AdapterSpec) -> Trained:
    """Parameters ``method`` trains; raises UnsupportedError for a method that is not modelled."""
    if method in ("full", "mezo"):
        return _counted(base=architecture.params_total, formula="P", source=_FULL if method == "full" else _MEZO)
    if method == "layernorm":
        return _layernorm(architecture)
    if method in ("prompt-tuning", "prefix-tuning", "p-tuning"):
        return _virtual_tokens(architecture, method, spec)
    if method in ("adaption-prompt", "llama-adapter-v2"):
        return _llama_adapter(architecture, method, spec)
    if method == "bottleneck":
        return _bottleneck(architecture, spec)
    if method not in LOW_RANK | {"vera", "ia3"} | RARE.keys():
        raise UnsupportedError(
            f"the fine-tuning method {method[:40]!r} is not modelled", hint=f"known: {', '.join(sorted(METHODS))}"
        )
    wrapped = targets(architecture, spec)
    if not wrapped and not _head_wrapped(architecture, spec):
        raise UnsupportedError(
            f"none of the modules {spec.target_modules} is in {architecture.name}",
            hint="name modules of this model, or all-linear",
        )
    copies = _saved_copies(architecture, spec)
    if method == "vera":
        return _vera(wrapped, spec, copies)
    if method == "ia3":
        return _ia3(wrapped, copies)
    if method in RARE:
        return _rare(wrapped, RARE[method], spec, copies)
    return _low_rank(architecture, wrapped, method, spec, copies)


def _counted(
    *, added: Int = 0, base: Int = 0, frozen: Int = 0, copies: Int = 0, formula: str, source: Citation
) -> Trained:
    return Trained(
        added=added, base=base, frozen_added=frozen, saved_copies=copies, formula=formula, source=source
    )


def _head_wrapped(architecture: ModelArchitecture, spec: AdapterSpec) -> bool:
    return "lm_head" in spec.target_modules and architecture.has_lm_head


def _low_rank(
    architecture: ModelArchitecture,
    wrapped: tuple[tuple[LayerGroup, Linear], ...],
    method: str,
    spec: AdapterSpec,
    copies: Int,
) -> Trained:
    """Σ r (n + m); DoRA adds m magnitudes and AdaLoRA r singular values per matrix."""
    rank: Int = spec.rank
    added: Int = 0
    for group, linear in wrapped:
        count = group.count * linear.count
        ranks = rank * _fused_halves(linear)
        added = added + count * ranks * (linear.in_features + linear.out_features)
        if method in ("dora", "qdora"):
            added = added + count * linear.out_features
        elif method == "adalora":
            added = added + count * rank
    if _head_wrapped(architecture, spec):
        added = added + rank * (architecture.hidden_size + architecture.vocab_size)
    if "embed_tokens" in spec.target_modules:
        added = added + rank * (architecture.hidden_size + architecture.vocab_size)
    formula, source = {
        "dora": ("Σ r (n + m) + m", _DORA),
        "qdora": ("Σ r (n + m) + m", _DORA),
        "adalora": ("Σ r (n + m + 1)", _ADALORA),
    }.get(method, ("Σ r (n + m)", _LORA))
    return _counted(added=added, copies=copies, formula=formula, source=source)


def _fused_halves(linear: Linear) -> int:
    """peft gives a gate and up projection fused in a bare parameter the ranks of both."""
    return 2 if not linear.is_module and linear.role == "expert" and linear.name.startswith("gate_up") else 1


def _saved_copies(architecture: ModelArchitecture, spec: AdapterSpec) -> Int:
    """``modules_to_save``: embeddings and head are trained as full copies."""
    matrix = architecture.vocab_size * architecture.hidden_size
    return sum(matrix for name in spec.modules_to_save if name in ("embed_tokens", "lm_head", "wte"))


def _vera(wrapped: tuple[tuple[LayerGroup, Linear], ...], spec: AdapterSpec, copies: Int) -> Trained:
    """Trained: r + m per matrix. Frozen, shared by all layers: A (r × largest n) and B (largest m × r)."""
    added: Int = 0
    for group, linear in wrapped:
        added = added + group.count * linear.count * (spec.rank + linear.out_features)
    shared = spec.rank * (
        max(linear.in_features for _, linear in wrapped) + max(linear.out_features for _, linear in wrapped)
    )
    return _counted(added=added, frozen=shared, copies=copies, formula="Σ r + m", source=_VERA)


def _ia3(wrapped: tuple[tuple[LayerGroup, Linear], ...], copies: Int) -> Trained:
    """One vector per matrix: its input features for feed-forward (down) projections, else its output features."""
    added: Int = 0
    for group, linear in wrapped:
        feed_forward = linear.role == "mlp" and linear.in_features > linear.out_features
        added = added + group.count * (linear.in_features if feed_forward else linear.out_features)
    return _counted(added=added, copies=copies, formula="Σ m (n for feed-forward)", source=_IA3)


def _rare(
    wrapped: tuple[tuple[LayerGroup, Linear], ...], rare: RareMethod, spec: AdapterSpec, copies: Int
) -> Trained:
    added: Int = 0
    for group, linear in wrapped:
        each = rare.count(linear.in_features, linear.out_features, spec.rank)
        added = added + group.count * linear.count * each
    return _counted(added=added, copies=copies, formula=rare.formula, source=rare.source)


def _virtual_tokens(architecture: ModelArchitecture, method: str, spec: AdapterSpec) -> Trained:
    tokens: Int = spec.num_virtual_tokens
    width = architecture.hidden_size
    copies = 2 if architecture.kind == "encoder-decoder" and method != "prompt-tuning" else 1
    if method == "prompt-tuning":
        return _counted(added=tokens * width, formula="t × d", source=_PROMPT)
    if method == "p-tuning":
        encoder = 3 * width * width + 3 * width
        return _counted(added=tokens * width * copies + encoder, formula="t × d + 3 d² + 3 d", source=_PTUNING)
    attention = architecture.groups[-1].mixer
    if not isinstance(attention, GroupedQueryAttention):
        raise UnsupportedError("prefix tuning needs key/value attention", hint="choose lora")
    key_value = attention.num_key_value_heads * attention.head_dim
    layers = (
        sum(group.count for group in architecture.groups if group.stack == "decoder") or architecture.num_layers
    )
    return _counted(added=tokens * 2 * layers * key_value, formula="t × 2 × L × K", source=_PREFIX)


def _bottleneck(architecture: ModelArchitecture, spec: AdapterSpec) -> Trained:
    """Two adapters per layer (after attention and after the MLP), each 2 d b + b + d."""
    width, size = architecture.hidden_size, spec.bottleneck_size
    added = 2 * architecture.num_layers * (2 * width * size + size + width)
    return _counted(added=added, formula="2 L (2 d b + b + d)", source=_BOTTLENECK)


def _layernorm(architecture: ModelArchitecture) -> Trained:
    """Weights (and biases) of every full-width norm of the blocks and the final one."""
    vectors = {"rmsnorm": 1, "layernorm": 2, "layernorm-no-bias": 1, "layernorm-no-params": 0}[architecture.norm]
    norms = sum(group.count * group.num_norms for group in architecture.groups) + 1
    return _counted(
        base=norms * vectors * architecture.hidden_size, formula="(Σ norms + 1) × d", source=_LAYERNORM
    )


def _llama_adapter(architecture: ModelArchitecture, method: str, spec: AdapterSpec) -> Trained:
    """litgpt: 10 prompt tokens and one gate per head in all layers but the first two; v2 also trains scales,
    shifts and norms of every linear.
    """
    tokens, skipped = 10, 2
    attention = architecture.groups[0].mixer
    if not isinstance(attention, GroupedQueryAttention):
        raise UnsupportedError(f"{method} needs key/value attention in every layer", hint="choose lora")
    layers = architecture.num_layers - skipped
    added: Int = layers * (tokens * architecture.hidden_size + attention.num_attention_heads)
    if method == "adaption-prompt":
        return _counted(added=added, formula="(L − 2)(10 d + H)", source=_LLAMA_ADAPTER)
    shifts = sum(
        each.count * 2 * sum(linear.out_features for linear in each.linears) for each in architecture.groups
    )
    head = 2 * architecture.vocab_size
    norms = _layernorm(architecture).base
    return _counted(
        added=added + shifts + head,
        base=norms,
        formula="(L − 2)(10 d + H) + Σ 2 m + norms",
        source=_LLAMA_ADAPTER_V2,
    )


def adapter_terms(parts: Trained, dtype: str, frozen_dtype: str) -> tuple[MemoryTerm, ...]:
    """Weights the method adds to the model, in bytes."""
    terms = []
    if not (isinstance(parts.added, int) and parts.added == 0):
        terms.append(
            MemoryTerm(
                kind="adapter",
                label="adapter weights",
                size_bytes=parts.added * ELEMENT_BYTES[dtype],
                formula=f"{parts.formula} × {ELEMENT_BYTES[dtype]}",
                inputs={"parameters": parts.added},
                source=parts.source,
            )
        )
    extra = parts.frozen_added * ELEMENT_BYTES[dtype] + parts.saved_copies * ELEMENT_BYTES[frozen_dtype]
    if not (isinstance(extra, int) and extra == 0):
        terms.append(
            MemoryTerm(
                kind="adapter",
                label="frozen projections and saved modules",
                size_bytes=extra,
                formula="frozen r (n + m) + trained copies of whole modules",
                inputs={"frozen": parts.frozen_added, "copies": parts.saved_copies},
                source=parts.source,
            )
        )
    return tuple(terms)
