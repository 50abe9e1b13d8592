"""Models as a listing, as one page on a model's layers and matrices, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from planner.memory.terms.kv_cache import CachePolicy, token_bytes
from planner.model.architecture import (
    DenseMlp,
    GroupedQueryAttention,
    LatentAttention,
    LayerGroup,
    ModelArchitecture,
    MoeMlp,
    RecurrentMixer,
)
from planner.model.params import closed_form
from planner.model.registry import RegistryEntry, ResolvedModel
from planner.units import format_bytes, format_count
from tui.render.listing import Column, Listing

_COLUMNS = (
    Column(title="model"),
    Column(title="parameters", right=True),
    Column(title="family"),
    Column(title="type"),
    Column(title="confidence"),
)
_CONFIDENCE = {
    "A": "A, the count equals a published one or the difference is explained",
    "B": "B, from a published shape, the count is not confirmed by a published one",
    "C": "C, recalled or presumed, not verified",
}


def listing(entries: Sequence[RegistryEntry]) -> Listing:
    """One line per model."""
    rows = tuple(
        (entry.id, format_count(entry.params_total), entry.family, entry.config["model_type"], entry.confidence)
        for entry in entries
    )
    return Listing(columns=_COLUMNS, rows=rows, notes=("`plan models NAME` shows one model's layers and sources",))


def page(resolved: ResolvedModel, model: ModelArchitecture, entry: RegistryEntry | None) -> tuple[Listing, ...]:
    """All that is known about one model: facts, layers, matrices."""
    return (_facts(resolved, model, entry), _layers(model), _matrices(model))


def _facts(resolved: ResolvedModel, model: ModelArchitecture, entry: RegistryEntry | None) -> Listing:
    facts = {
        "parameters": f"{model.params_total:,} ({format_count(model.params_total)})",
        "active per token": f"{model.params_active:,}" if model.params_active != model.params_total else "",
        "closed form": closed_form(model),
        "kind": f"{model.kind}, model type {model.model_type}",
        "hidden size": f"{model.hidden_size:,}",
        "vocabulary": f"{model.vocab_size:,}"
        + (", head tied to the embedding" if model.tie_word_embeddings else ""),
        "context": f"{model.max_position_embeddings:,} tokens" if model.max_position_embeddings else "",
        "KV cache": _kv_cache(model),
        "checkpoint": resolved.checkpoint_weight_dtype or "",
        "not modelled": " and ".join(
            {"kv_cache": "serving", "activations": "training"}[part] for part in model.unmodelled
        ),
        "confidence": _CONFIDENCE[model.confidence],
        "doubts": model.doubts,
        "shape from": model.source,
        "count from": entry.count_source if entry else "",
        "also called": ", ".join(entry.aliases) if entry else "",
    }
    rows = tuple((name, value) for name, value in facts.items() if value)
    return Listing(title=model.name, columns=(Column(title="fact"), Column(title="value")), rows=rows)


def _kv_cache(model: ModelArchitecture) -> str:
    if model.kind == "encoder" or "kv_cache" in model.unmodelled:
        return ""
    policy = CachePolicy()
    growing = f"{format_bytes(int(token_bytes(model, policy)))} per token in bf16"
    unbounded = int(token_bytes(model, CachePolicy(windowed=False)))
    if unbounded != int(token_bytes(model, policy)):
        return f"{growing} beyond the windows, {format_bytes(unbounded)} within them"
    return growing


def _mixer(group: LayerGroup) -> str:
    mixer = group.mixer or group.cross_attention
    if isinstance(mixer, GroupedQueryAttention):
        text = f"{mixer.num_attention_heads} heads x {mixer.head_dim}, {mixer.num_key_value_heads} key/value heads"
        text += f", window {mixer.window:,}" if mixer.window else ""
        text += ", keys and values of an earlier layer" if mixer.shares_kv_with_earlier_layer else ""
        if group.mixer is None:
            return f"cross attention only, {text}"
        return text + (", and cross attention" if group.cross_attention else "")
    if isinstance(mixer, LatentAttention):
        return f"{mixer.num_attention_heads} heads on a latent of {mixer.kv_lora_rank} + {mixer.qk_rope_head_dim}"
    if isinstance(mixer, RecurrentMixer):
        return f"{mixer.kind}, state {mixer.state_elements + mixer.conv_state_elements:,} elements"
    return "-"


def _mlp(group: LayerGroup) -> str:
    if isinstance(group.mlp, DenseMlp):
        return f"{group.mlp.intermediate_size:,}{' gated' if group.mlp.gated else ''}"
    if isinstance(group.mlp, MoeMlp):
        shared = f" + {group.mlp.shared_intermediate_size:,} shared" if group.mlp.shared_intermediate_size else ""
        experts = f"{group.mlp.num_experts_per_tok} of {group.mlp.num_experts} experts"
        return f"{experts} x {group.mlp.moe_intermediate_size:,}{shared}"
    return "-"


def _layers(model: ModelArchitecture) -> Listing:
    rows = tuple(
        (str(group.count), group.stack, _mixer(group), _mlp(group), f"{group.params_per_layer:,}")
        for group in model.groups
    )
    columns = (
        Column(title="layers", right=True),
        Column(title="stack"),
        Column(title="mixer"),
        Column(title="MLP"),
        Column(title="parameters each", right=True),
    )
    return Listing(title="Layers", columns=columns, rows=rows)


def _matrices(model: ModelArchitecture) -> Listing:
    rows = tuple(
        (
            str(number),
            linear.name,
            linear.role,
            f"{linear.in_features:,} x {linear.out_features:,}",
            str(linear.count) if linear.count > 1 else "",
            "yes" if linear.bias else "",
            "" if linear.is_module else "bare parameter",
        )
        for number, group in enumerate(model.groups, start=1)
        for linear in group.linears
    )
    columns = (
        Column(title="group", right=True),
        Column(title="matrix"),
        Column(title="role"),
        Column(title="in x out", right=True),
        Column(title="copies", right=True),
        Column(title="bias"),
        Column(title="held as"),
    )
    note = "adapters and 4-bit weights reach modules, not bare parameters"
    return Listing(title="Matrices of one layer", columns=columns, rows=rows, notes=(note,))


def entry_json(entry: RegistryEntry) -> dict[str, Any]:
    """One line of the listing for ``--json``."""
    return {
        "id": entry.id,
        "family": entry.family,
        "model_type": entry.config["model_type"],
        "aliases": list(entry.aliases),
        "params_total": entry.params_total,
        "confidence": entry.confidence,
        "shape_source": entry.config_source,
        "count_source": entry.count_source or None,
        "doubts": entry.doubts or None,
    }


def model_json(resolved: ResolvedModel, model: ModelArchitecture, entry: RegistryEntry | None) -> dict[str, Any]:
    """One model with its whole architecture; a mixer and an MLP say their ``kind``."""
    described = asdict(model)
    for group, value in zip(described["groups"], model.groups, strict=True):
        for part in ("mixer", "mlp", "cross_attention"):
            if group[part] is not None:
                group[part] = {"type": type(getattr(value, part)).__name__, **group[part]}
        group["params_per_layer"] = value.params_per_layer
    return {
        **({"id": model.name} if entry is None else entry_json(entry)),
        "num_params_named": resolved.num_params_named,
        "params_total": model.params_total,
        "params_active": model.params_active,
        "checkpoint_weight_dtype": resolved.checkpoint_weight_dtype,
        "notes": list(resolved.notes),
        "closed_form": closed_form(model),
        "architecture": described,
    }
