"""A mixture of experts as ``transformers`` routes it: every token is copied once per chosen expert.

Letters: T tokens, k experts per token, E experts, f width of one expert, d hidden size.
"""

from __future__ import annotations

from planner.citation import Citation
from planner.memory.blocks.adapted import adapted_linear
from planner.memory.blocks.operators import Weight, activation, add, cast, linear, mul, softmax
from planner.memory.blocks.setting import Setting
from planner.memory.ops import ceil_div
from planner.memory.tape import Tape, Tensor
from planner.model.architecture import LayerGroup, Linear, MoeMlp

ROUTING = Citation(
    title="transformers: experts run on sorted copies of their tokens",
    url="https://github.com/huggingface/transformers/blob/main/src/transformers/integrations/moe.py",
)


def experts(tape: Tape, x: Tensor, group: LayerGroup, setting: Setting) -> Tensor:
    """Routed experts and the shared one. Keeps T × k rows of everything an expert keeps."""
    tape.kind = "experts"
    spec = group.mlp
    assert isinstance(spec, MoeMlp)
    width = x.elements // setting.tokens
    pairs = setting.tokens * spec.num_experts_per_tok
    weights = _route(tape, x, group, spec, setting)
    gathered = tape.op("tokens by expert", (x,), pairs * width, x.dtype)
    modules = [item for item in group.linears if item.role == "expert"]
    hidden = _inner(tape, gathered, modules[:-1], spec, setting)
    out = _expert_linear(tape, hidden, modules[-1], setting, shards="in")
    weighted = mul(tape, out, weights, name="weighted outputs")
    routed = tape.op("routed output", (weighted,), x.elements, x.dtype)
    shared = [item for item in group.linears if item.role == "shared_expert" and item.out_features > 1]
    if len(shared) < 2:
        return routed
    tape.kind = "mlp"
    inner = [adapted_linear(tape, x, module, setting) for module in shared[:-1]]
    hidden = activation(tape, spec.activation, inner[0])
    if len(inner) > 1:
        hidden = mul(tape, hidden, inner[1], name="gated")
    return add(tape, routed, adapted_linear(tape, hidden, shared[-1], setting, shards="in"))


def _route(tape: Tape, x: Tensor, group: LayerGroup, spec: MoeMlp, setting: Setting) -> Tensor:
    """Softmax over E scores per token in fp32, of which k are kept."""
    router = next((item for item in group.linears if item.role == "router"), None)
    count = router.out_features if router is not None else spec.num_experts
    weight = Weight(
        num_params=count * (x.elements // setting.tokens),
        trainable=setting.weights_trained,
        gradient_bytes=setting.gradient_bytes,
    )
    scores = linear(tape, "router", x, setting.tokens * count, x.dtype, weight)
    chosen = softmax(tape, scores, dtype="fp32")
    top = tape.op("routing weights", (chosen,), setting.tokens * spec.num_experts_per_tok, "fp32")
    return cast(tape, top, x.dtype)


def _inner(tape: Tape, x: Tensor, modules: list[Linear], spec: MoeMlp, setting: Setting) -> Tensor:
    parts = [_expert_linear(tape, x, module, setting) for module in modules]
    if len(parts) == 1 and spec.gated:
        gate, up = tape.split(parts[0], parts[0].elements // 2, parts[0].elements // 2)
        parts = [gate, up]
    hidden = activation(tape, spec.activation, parts[0])
    return mul(tape, hidden, parts[1], name="gated") if len(parts) > 1 else hidden


def _expert_linear(tape: Tape, x: Tensor, module: Linear, setting: Setting, *, shards: str = "out") -> Tensor:
    """One projection of all experts; a quantised one is dequantised expert by expert."""
    if module.is_module:
        return adapted_linear(tape, x, module, setting, shards=shards)
    in_features = module.in_features // setting.tp if shards == "in" else module.in_features
    out_features = module.out_features // setting.tp if shards == "out" else module.out_features
    weight = Weight(
        num_params=ceil_div(module.count * in_features * out_features, setting.ep),
        trainable=setting.weights_trained,
        gradient_bytes=setting.gradient_bytes,
    )
    rows = x.elements // in_features
    branch = setting.adapter
    if branch is not None and branch.applies(module):
        # peft adds the branch to the parameter itself: a whole copy of the experts lives until backward.
        merged = tape.op("experts with LoRA", (), weight.num_params, x.dtype, trainable=True)
        return tape.op(module.name, (x, merged), rows * out_features, x.dtype, saves=(x, merged))
    return linear(tape, module.name, x, rows * out_features, x.dtype, weight)
