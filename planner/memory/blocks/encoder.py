"""Post-norm encoders: BERT, RoBERTa, DistilBERT and their kin.

Source: https://github.com/huggingface/transformers/blob/v4.57.1/src/transformers/models/bert/modeling_bert.py
"""

from __future__ import annotations

from planner.memory.blocks.adapted import adapted_linear
from planner.memory.blocks.decoder import attend, norm, query_key_value
from planner.memory.blocks.operators import activation, add, dropout
from planner.memory.blocks.setting import Setting
from planner.memory.tape import Tape, Tensor
from planner.model.architecture import DenseMlp, GroupedQueryAttention, LayerGroup, ModelArchitecture


def encoder_block(
    tape: Tape, x: Tensor, group: LayerGroup, architecture: ModelArchitecture, setting: Setting
) -> Tensor:
    """norm(x + dropout(dense(attention(x)))), then the same around the MLP."""
    width = architecture.hidden_size
    attention, spec = group.mixer, group.mlp
    assert isinstance(attention, GroupedQueryAttention)
    assert isinstance(spec, DenseMlp)
    tape.kind = "attention"
    modules = [item for item in group.linears if item.role == "attention"]
    q, k, v = query_key_value(tape, x, modules[:-1], attention, setting)
    mixed = attend(tape, q, k, v, attention, setting, keys=setting.seq)
    out = dropout(tape, adapted_linear(tape, mixed, modules[-1], setting, shards="in"), setting.dropout)
    tape.kind = "norms"
    x = norm(tape, add(tape, out, x, name="residual"), width, architecture, setting)
    tape.kind = "mlp"
    feed = [item for item in group.linears if item.role == "mlp"]
    hidden = activation(tape, spec.activation, adapted_linear(tape, x, feed[0], setting))
    out = dropout(tape, adapted_linear(tape, hidden, feed[-1], setting, shards="in"), setting.dropout)
    tape.kind = "norms"
    return norm(tape, add(tape, out, x, name="residual"), width, architecture, setting)
