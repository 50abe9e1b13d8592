"""GGUF block types, and which tensor of a mixture such as Q4_K_M gets which of them.

A GGUF file stores each row of a matrix (its input dimension) as blocks. llama.cpp's quantiser gives the tensors
it finds sensitive a richer type than the rest; which ones depends on the mixture, the layer and the head grouping.
"""

from __future__ import annotations

from planner.citation import Citation

BLOCK_LAYOUTS = Citation(
    title="ggml block layouts (ggml-common.h)",
    url="https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h",
)
MIXTURES = Citation(
    title="llama.cpp: type per tensor (llama-quant.cpp)",
    url="https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp",
)

BLOCKS: dict[str, tuple[int, int]] = {
    "f32": (1, 4), "f16": (1, 2), "bf16": (1, 2),
    "q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34),
    "q2_k": (256, 84), "q3_k": (256, 110), "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210),
    "iq1_s": (256, 50), "iq1_m": (256, 56), "iq2_xxs": (256, 66), "iq2_xs": (256, 74), "iq2_s": (256, 82),
    "iq3_xxs": (256, 98), "iq3_s": (256, 110), "iq4_nl": (32, 18), "iq4_xs": (256, 136),
    "tq1_0": (256, 54), "tq2_0": (256, 66), "mxfp4": (32, 17),
}  # fmt: skip
"""Block type -> (weights per block, bytes per block)."""

_BASE = {
    "q2_k_s": "q2_k", "q3_k_s": "q3_k", "q3_k_m": "q3_k", "q3_k_l": "q3_k", "q4_k_s": "q4_k", "q4_k_m": "q4_k",
    "q5_k_s": "q5_k", "q5_k_m": "q5_k", "iq2_s": "iq2_xs", "iq2_m": "iq2_s", "iq3_xs": "iq3_s", "iq3_m": "iq3_s",
    "mxfp4_moe": "q8_0",
}  # fmt: skip
"""Mixture -> type of most tensors, where the name is not the type itself."""

_LOW_BIT = frozenset({"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m"})
_OUTPUT = {
    **dict.fromkeys((*_LOW_BIT, "iq3_xxs"), "q5_k"),
    **dict.fromkeys(("f32", "f16", "bf16", "q8_0", "mxfp4_moe"), ""),
}
_EMBEDDING = {
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs"), "q2_k"),
    **dict.fromkeys(("iq2_s", "iq2_m", "iq3_xxs"), "iq3_s"),
    **dict.fromkeys(("tq1_0", "tq2_0"), "q4_k"),
}

_ALWAYS = {
    ("q2_k", "attn_v"): "q3_k", ("q3_k_m", "attn_v"): "q4_k", ("q3_k_l", "attn_v"): "q5_k",
    ("iq3_m", "attn_v"): "q4_k",
    **{(mixture, "attn_v"): "q2_k" for mixture in ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs")},
    **{(mixture, "attn_v"): "iq3_s" for mixture in ("iq2_s", "iq2_m")},
    ("iq3_xs", "attn_k"): "iq3_xxs", ("iq3_xs", "attn_q"): "iq3_xxs",
    ("iq3_xxs", "attn_k"): "iq2_s", ("iq3_xxs", "attn_q"): "iq2_s",
    ("q2_k", "attn_output"): "q3_k", ("q3_k_m", "attn_output"): "q4_k", ("q3_k_l", "attn_output"): "q5_k",
    ("iq3_xxs", "attn_output"): "iq3_s", ("iq3_m", "attn_output"): "q4_k",
    ("iq1_s", "attn_output"): "iq2_xxs", ("iq1_m", "attn_output"): "iq2_xxs",
    ("iq2_s", "attn_output"): "iq3_s", ("iq2_m", "attn_output"): "iq3_s",
    ("q2_k", "ffn_down"): "q3_k", ("q3_k_m", "ffn_down"): "q4_k", ("q3_k_l", "ffn_down"): "q5_k",
    ("q3_k_m", "attn_qkv"): "q4_k", ("q3_k_l", "attn_qkv"): "q4_k", ("iq3_m", "attn_qkv"): "q4_k",
    ("q4_k_m", "attn_qkv"): "q5_k", ("q5_k_m", "attn_qkv"): "q6_k",
}  # fmt: skip
_WIDE_GROUPS = {
    **{(mixture, "attn_v"): "q4_k" for mixture in (*_LOW_BIT, "q2_k", "q2_k_s", "iq3_xxs", "iq3_xs", "iq3_s")},
    ("iq4_nl", "attn_v"): "q5_k",
    ("iq4_xs", "attn_v"): "q5_k",
}
"""Where at least four query heads share a key/value head."""
_FEWER_BITS = {("iq3_xs", "ffn_gate"): "iq3_xxs", ("iq3_xs", "ffn_up"): "iq3_xxs"}
"""Between the first and the last eighth of the layers."""
_MORE_BITS = {(mixture, tensor): "q6_k" for mixture in ("q4_k_m", "q5_k_m") for tensor in ("attn_v", "ffn_down")}
"""In the first and last eighth of the layers and every third one between."""
_FIRST_EIGHTH = {
    ("q4_k_s", "ffn_down"): "q5_k", ("q2_k_s", "ffn_down"): "q4_k", ("iq3_m", "ffn_down"): "q4_k",
    **{(mixture, "ffn_down"): "q2_k" for mixture in ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs")},
    **{(mixture, "ffn_down"): "iq3_s" for mixture in ("iq2_s", "iq2_m")},
}  # fmt: skip
_FALLBACK = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0", "tq1_0": "q4_0", "tq2_0": "q4_0"}
"""Where a row is not a multiple of 256; the other 256-blocks become iq4_nl."""

_TENSOR_OF = {
    **dict.fromkeys(("v_proj", "value"), "attn_v"),
    **dict.fromkeys(("k_proj", "key"), "attn_k"),
    **dict.fromkeys(("q_proj", "query"), "attn_q"),
    **dict.fromkeys(("o_proj", "out_proj"), "attn_output"),
    **dict.fromkeys(("down_proj", "fc2", "dense_4h_to_h", "w2"), "ffn_down"),
    **dict.fromkeys(("gate_proj", "w1"), "ffn_gate"),
    **dict.fromkeys(("up_proj", "gate_up_proj", "w3", "fc1", "dense_h_to_4h"), "ffn_up"),
    **dict.fromkeys(("c_attn", "qkv_proj", "query_key_value", "Wqkv", "W_pack"), "attn_qkv"),
}

MIXTURE_NAMES = frozenset((set(BLOCKS) | set(_BASE)) - {"mxfp4"})


def row_bytes(block_type: str, columns: int) -> int:
    """Bytes of one row of ``columns`` weights, with llama.cpp's fallback where blocks do not divide the row."""
    if columns % BLOCKS[block_type][0]:
        block_type = _FALLBACK.get(block_type, "iq4_nl")
    if columns % BLOCKS[block_type][0]:
        block_type = "f16"
    weights, size_bytes = BLOCKS[block_type]
    return columns // weights * size_bytes


def output_type(mixture: str) -> str:
    """Type of the output matrix, and of a token embedding that serves as one."""
    return _OUTPUT.get(mixture, "q6_k") or _BASE.get(mixture, mixture)


def embedding_type(mixture: str) -> str:
    """Type of a token embedding beside a separate output matrix."""
    return _EMBEDDING.get(mixture, _BASE.get(mixture, mixture))


def tensor_type(
    mixture: str, linear: str, layer: int, num_layers: int, heads_per_kv: int, num_experts: int
) -> str:
    """Block type of one matrix of one layer; ``linear`` is its Hugging Face module name.

    Source: llama.cpp's quantiser, with the importance matrix published low-bit files are made with.
    """
    base = _BASE.get(mixture, mixture)
    tensor = _TENSOR_OF.get(linear)
    if tensor is None or mixture in ("f32", "f16", "bf16"):
        return base
    key = (mixture, tensor)
    if num_experts == 8 and tensor in ("attn_k", "attn_v"):
        return "q8_0"
    if num_experts == 8 and tensor == "attn_output":
        return "q5_k" if base in ("q2_k", "q3_k", "q4_k", "iq3_xxs", "iq3_s", "iq4_xs", "iq4_nl") else base
    chosen = _ALWAYS.get(key, base)
    if heads_per_kv >= 4 or (mixture in _LOW_BIT and num_experts >= 4):
        chosen = _WIDE_GROUPS.get(key, chosen)
    eighth = num_layers // 8
    edges = layer < eighth or layer >= 7 * num_layers // 8
    if not edges:
        chosen = _FEWER_BITS.get(key, chosen)
    if edges or (layer - eighth) % 3 == 2:
        chosen = _MORE_BITS.get(key, chosen)
    if layer < eighth:
        chosen = _FIRST_EIGHTH.get(key, chosen)
    if (key == ("q4_k_s", "attn_v") and layer < 4) or (key == ("q3_k_m", "attn_v") and layer < 2):
        chosen = "q5_k"
    if key == ("q3_k_m", "ffn_down") and layer < num_layers // 16:
        chosen = "q5_k"
    if num_layers == 80 and heads_per_kv == 8 and tensor == "attn_v" and chosen in ("q3_k", "q4_k"):
        chosen = "q5_k"
    return chosen
