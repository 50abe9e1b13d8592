"""The end of a decoder: final norm, output head and loss, the place most LoRA runs peak.

Letters: T tokens of the micro-batch on one rank, V vocabulary, d hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.citation import Citation
from planner.dtypes import ELEMENT_BYTES
from planner.memory.blocks.decoder import norm
from planner.memory.blocks.operators import Weight, cast, linear, scale
from planner.memory.blocks.quirks import quirks
from planner.memory.blocks.setting import Setting
from planner.memory.frameworks import LossKernel
from planner.memory.ops import Int, ceil_div, minimum, where
from planner.memory.tape import Tape, Tensor
from planner.memory.tape_memory import TapeMemory, memory_of
from planner.model.architecture import ModelArchitecture

CAUSAL_LM_LOSS = Citation(
    title="transformers: ForCausalLMLoss upcasts the logits to fp32",
    url="https://github.com/huggingface/transformers/blob/v4.57.1/src/transformers/loss/loss_utils.py",
)
LITGPT_HEAD = Citation(
    title="litgpt: lm_head_chunk_size and chunked_cross_entropy, 128 tokens each",
    url="https://github.com/Lightning-AI/litgpt/blob/main/litgpt/utils.py",
)
UNSLOTH_LOSS = Citation(
    title="unsloth: cross entropy whose backward pass writes into the logits",
    url="https://github.com/unslothai/unsloth/blob/main/unsloth/kernels/cross_entropy_loss.py",
)
LIGER = Citation(
    title="Liger: fused linear cross entropy works on chunks of rows",
    url="https://github.com/linkedin/Liger-Kernel/blob/main/src/liger_kernel/ops/fused_linear_cross_entropy.py",
)
TRL_HEAD = Citation(
    title="TRL: logits in tiles of 4,096 tokens by 32,768 words, gradients accumulated in fp32",
    url="https://github.com/huggingface/trl/blob/v1.16.0/trl/kernels/chunked_logprob.py",
)
TILE_TOKENS, TILE_WORDS = 4096, 32768


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What the end of the model costs on one rank."""

    memory: TapeMemory
    forward_peak_bytes: Int
    """Highest point before the outputs of the step before are let go."""
    block_bytes: Int
    """The largest single tensor of the loss."""
    stranded_bytes: Int = 0
    """Blocks freed on the way that fit nothing that follows: half-precision logits among fp32 tensors."""
    returns_stranded: bool = True
    """The half-precision logits are what the model returns."""
    logits_bytes: Int
    """Logits as the model returns them; they outlive the step where the loop keeps ``outputs``."""
    formula: str
    source: Citation


def tail(
    architecture: ModelArchitecture,
    setting: Setting,
    *,
    x_needs_grad: bool,
    head_trained: bool,
    head_dtype: str,
    kernel: LossKernel,
    rows: Int,
    selects: bool = False,
    labels: int | None = None,
) -> Tail:
    """Final norm, head and loss; ``rows`` tokens get logits, over ``labels`` classes instead of the vocabulary."""
    tape = Tape(kind="final norm")
    width, vocabulary = architecture.hidden_size, labels or architecture.vocab_size
    x = tape.input("hidden states", setting.tokens * width, setting.stream_dtype, needs_grad=x_needs_grad)
    hidden = norm(tape, x, width, architecture, setting)
    tape.kind = "logits and loss"
    tokens = rows
    if selects:
        hidden = tape.op("selected hidden states", (hidden,), rows * width, hidden.dtype)
    weight = Weight(
        num_params=vocabulary * width // setting.tp,
        trainable=head_trained,
        gradient_bytes=setting.gradient_bytes,
        cast_bytes=vocabulary * width * ELEMENT_BYTES[setting.compute_dtype] // setting.tp
        if setting.casts_weights
        else 0,
        saves_input=setting.saves_quantised_inputs and setting.quantised_head,
        dequantised_bytes=(
            vocabulary * width * setting.dequantised_element_bytes // setting.tp if setting.quantised_head else 0
        ),
    )
    if kernel == "tiled":
        return _tiled(tape, hidden, weight, tokens, vocabulary, setting)
    if kernel in ("chunked", "fused"):
        return _chunked(tape, hidden, weight, tokens, vocabulary, setting)
    dtype = setting.compute_dtype if setting.autocast else head_dtype
    logits = linear(tape, "logits", cast(tape, hidden, dtype), tokens * vocabulary // setting.tp, dtype, weight)
    returned = logits
    if kernel == "upcast":
        tape.hold(logits)
    scores = logits
    copies = 2 if quirks(architecture.model_type).scales_logits else 1
    if architecture.logit_softcap is not None:
        capped = scale(tape, logits, name="scaled logits")
        capped = tape.op("tanh", (capped,), logits.elements, logits.dtype, saves_output=True)
        logits = returned = scores = scale(tape, capped, name="capped logits")
    if kernel == "split-head":
        return _split_head(tape, logits, setting, tokens)
    if kernel == "in-place":
        return _in_place(tape, logits)
    if kernel != "same-dtype":
        scores = cast(tape, logits, "fp32", name="logits in fp32")
        tape.hold(scores)
    if kernel == "upcast-shift-copy":
        returned = scores
        scores = tape.op("shifted logits", (scores,), scores.elements, scores.dtype)
        tape.hold(scores)
    log_probabilities = tape.op("log-softmax", (scores,), scores.elements, scores.dtype, saves_output=True)
    loss = tape.op("loss", (log_probabilities,), 1, "fp32", saves=(log_probabilities,))
    memory = memory_of(tape, loss)
    return Tail(
        memory=memory,
        forward_peak_bytes=memory.forward_peak_bytes,
        block_bytes=scores.size_bytes,
        stranded_bytes=copies * logits.size_bytes if logits.dtype != scores.dtype else 0,
        returns_stranded=returned is logits,
        logits_bytes=returned.size_bytes,
        formula=f"T × V × {ELEMENT_BYTES[scores.dtype]} (log-softmax saved for its gradient)",
        source=CAUSAL_LM_LOSS,
    )


def _in_place(tape: Tape, logits: Tensor) -> Tail:
    """A kernel that keeps the logits and writes their gradient over them; fp32 statistics per row are small."""
    loss = tape.op("loss", (logits,), 1, "fp32", saves=(logits,), backward_in_runs=True)
    memory = memory_of(tape, loss)
    return Tail(
        memory=memory,
        forward_peak_bytes=memory.forward_peak_bytes,
        block_bytes=logits.size_bytes,
        logits_bytes=logits.size_bytes,
        formula="T × V × 2 (logits, overwritten by their gradient)",
        source=UNSLOTH_LOSS,
    )


SPLIT_HEAD_ROWS = 128


def _split_head(tape: Tape, logits: Tensor, setting: Setting, tokens: Int) -> Tail:
    """Logits and losses in runs of 128 tokens: the gradient of a run appears as its log-softmax goes.

    Fabric hands outputs on in fp32, so the logits the loop holds and all that follows them are fp32.
    """
    rows = minimum(setting.batch * SPLIT_HEAD_ROWS, tokens)
    logits = cast(tape, logits, "fp32", name="logits in fp32")
    tape.hold(logits)
    forward = memory_of(tape, logits, output_gradient=False).forward_peak_bytes
    run_bytes = logits.size_bytes // tokens * rows
    loss = tape.op(
        "log-softmax",
        (logits,),
        1,
        "fp32",
        saves_bytes=logits.size_bytes,
        backward_in_runs=True,
        backward_scratch_bytes=2 * run_bytes,
    )
    return Tail(
        memory=memory_of(tape, loss),
        forward_peak_bytes=forward,
        block_bytes=logits.size_bytes,
        logits_bytes=logits.size_bytes,
        formula="T × V × 4 (log-softmax saved for its gradient, released run by run)",
        source=LITGPT_HEAD,
    )


def _chunked(tape: Tape, hidden: Tensor, weight: Weight, tokens: Int, vocabulary: int, setting: Setting) -> Tail:
    """Logits of one chunk of rows at a time; the gradient of the hidden states is made during the forward pass.

    The chunk count is the ratio of vocabulary to hidden size, so a chunk's logits are about as large as the
    hidden states of all tokens.
    """
    width = weight.num_params * setting.tp // vocabulary
    chunks = ceil_div(vocabulary, width)
    rows = minimum(_next_power_of_two(ceil_div(tokens, chunks)), tokens)
    element = ELEMENT_BYTES[setting.compute_dtype]
    logits = rows * vocabulary * (element + ELEMENT_BYTES["fp32"])
    gradient = weight.num_params * weight.gradient_bytes if weight.trainable else 0
    loss = tape.op(
        "loss",
        (hidden,),
        1,
        "fp32",
        saves_bytes=hidden.size_bytes + gradient,
        forward_scratch_bytes=logits,
        trainable=weight.trainable,
        weight_gradient_bytes=gradient,
    )
    memory = memory_of(tape, loss)
    return Tail(
        memory=memory,
        forward_peak_bytes=memory.forward_peak_bytes,
        block_bytes=rows * vocabulary * ELEMENT_BYTES["fp32"],
        logits_bytes=0,
        formula="T × d × 2 (gradient of the hidden states)",
        source=LIGER,
    )


def _tiled(tape: Tape, hidden: Tensor, weight: Weight, tokens: Int, vocabulary: int, setting: Setting) -> Tail:
    """Log-probabilities tile by tile, recomputed backward; the gradients of states and head are summed in fp32.

    Sums in fp32 are the gradients themselves where those are fp32. Autocast casts a tile's part of the head and of
    the states; backward, a name keeps the part before while the next is cast.
    """
    wide, element = ELEMENT_BYTES["fp32"], ELEMENT_BYTES[setting.compute_dtype]
    scored = tape.op("labelled hidden states", (hidden,), hidden.elements, hidden.dtype)
    rows = minimum(tokens, TILE_TOKENS)
    tile = rows * TILE_WORDS * element
    width = weight.num_params * setting.tp // vocabulary
    casts = element * width if setting.casts_weights else 0
    states = element * width * rows if setting.casts_weights and hidden.dtype != setting.compute_dtype else 0
    sums = 0 if hidden.dtype == "fp32" else hidden.elements * wide
    if weight.trainable and weight.gradient_bytes != wide:
        sums = sums + weight.num_params * wide
    loss = tape.op(
        "loss",
        (scored,),
        1,
        "fp32",
        saves=(scored,),
        saves_bytes=2 * tokens * wide,
        forward_scratch_bytes=tile + states + casts * minimum(vocabulary, TILE_WORDS),
        backward_scratch_bytes=tile + states + casts * minimum(vocabulary, 2 * TILE_WORDS) + sums,
        trainable=weight.trainable,
        weight_gradient_bytes=weight.num_params * weight.gradient_bytes if weight.trainable else 0,
    )
    memory = memory_of(tape, loss)
    return Tail(
        memory=memory,
        forward_peak_bytes=memory.forward_peak_bytes,
        block_bytes=tile,
        logits_bytes=0,
        formula="min(T, 4096) × 32768 × b (tile) + 4 (T d + V d) (gradients in fp32)",
        source=TRL_HEAD,
    )


def _next_power_of_two(value: Int) -> Int:
    power: Int = value * 0 + 1
    for _ in range(40):
        power = where(power < value, power * 2, power)
    return power
