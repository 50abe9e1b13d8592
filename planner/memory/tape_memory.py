"""What a recorded program costs: a walk forward and one back, without numbers ever touching a tensor.

Tells what is saved between the passes, each storage counted once however many operations save it, and the
highest point of each pass: temporaries included on the way forward, and gradients appearing while saved tensors
are released on the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.memory.ops import Int, maximum
from planner.memory.tape import Node, Storage, Tape, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeMemory:
    """What one run of a program costs, in bytes on one rank."""

    saved: tuple[Storage, ...]
    saved_bytes: Int
    forward_peak_bytes: Int
    """Highest point of the forward pass, saved tensors of this program included."""
    backward_peak_bytes: Int
    """Highest point of the backward pass: saved tensors not yet released, gradients and scratch."""
    held_bytes: Int
    """Tensors a Python name holds to the end of the forward pass that autograd does not save."""
    graph_bytes: Int
    """Tensors that hang on nodes of the graph and outlive the backward pass until the graph goes."""
    selected_bytes: Int
    """Kept by operator-level selective checkpointing: fused attention and every second matmul."""
    output_bytes: Int
    weight_gradient_bytes: Int

    def saved_by_kind(self) -> dict[str, Int]:
        """Saved bytes by part of the model, in program order."""
        sizes: dict[str, Int] = {}
        for storage in self.saved:
            sizes[storage.kind] = sizes.get(storage.kind, 0) + storage.size_bytes
        return sizes


def memory_of(tape: Tape, output: Tensor, *, output_gradient: bool = True, compiled: bool = False) -> TapeMemory:
    """Walk forward and back. ``output_gradient``: the caller hands in a gradient the size of the output.

    ``compiled``: selective checkpointing keeps no selected output that the backward pass never reads.
    """
    saved = tuple(dict.fromkeys(storage for node in tape.nodes for storage in node.saved))
    kept = set(saved)
    forward_peak = _forward_peak(tape, kept, output)
    backward_peak = _backward_peak(tape.nodes, saved, output, output_gradient)
    return TapeMemory(
        saved=saved,
        saved_bytes=_total(saved),
        forward_peak_bytes=forward_peak,
        backward_peak_bytes=backward_peak,
        held_bytes=_total(dict.fromkeys(storage for storage in tape.held if storage not in kept)),
        graph_bytes=_total(
            dict.fromkeys(
                tensor.storage
                for node in tape.nodes
                if node.holds_input and node.output.needs_grad
                for tensor in node.inputs
            )
        ),
        selected_bytes=_selected_bytes(tape.nodes, compiled),
        output_bytes=output.size_bytes,
        weight_gradient_bytes=sum(
            (node.weight_gradient_bytes for node in tape.nodes if node.output.needs_grad), start=0
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PassMemory:
    """A forward pass that saves nothing, as of a checkpointed block. Bytes."""

    peak_bytes: Int
    cached_bytes: Int
    """Blocks it leaves in the allocator's cache: the parts of a block have tensors of sizes of their own, and a
    part finds no use for what the one before it freed.
    """


def without_grad(tape: Tape, output: Tensor) -> PassMemory:
    """Walk forward alone, freeing each tensor after its last use."""
    last_use = _last_uses(tape.nodes)
    live = dict.fromkeys(tensor.storage for tensor in tape.inputs)
    total: Int = _total(live)
    peak: Int = total
    parts: dict[str, Int] = {}
    highest: dict[str, Int] = {}
    for index, node in enumerate(tape.nodes):
        made, part = node.output.storage, node.output.storage.kind
        extras = _total([storage for storage in node.saved if storage not in last_use])
        if made not in live:
            live[made] = None
            total = total + made.size_bytes
            parts[part] = parts.get(part, 0) + made.size_bytes
        working = node.forward_scratch_bytes + extras
        peak = maximum(peak, total + working)
        highest[part] = maximum(highest.get(part, 0), parts.get(part, 0) + working)
        for tensor in (*node.inputs, node.output):
            storage = tensor.storage
            if last_use[storage] == index and storage in live and storage is not output.storage:
                del live[storage]
                total = total - storage.size_bytes
                parts[storage.kind] = parts.get(storage.kind, 0) - storage.size_bytes
    return PassMemory(peak_bytes=peak, cached_bytes=sum(highest.values(), start=0))


def _last_uses(nodes: Sequence[Node]) -> dict[Storage, int]:
    """Number of the operation after which nothing reads a storage."""
    return {tensor.storage: index for index, node in enumerate(nodes) for tensor in (*node.inputs, node.output)}


def _selected_bytes(nodes: Sequence[Node], compiled: bool) -> Int:
    matmuls = [node.output.storage for node in nodes if node.is_matmul]
    chosen = matmuls[::2]
    if compiled and matmuls:
        chosen = [storage for storage in chosen if storage is not matmuls[-1]]  # it only enters the residual sum
    attention = [
        storage
        for node in nodes
        if node.name == "attention output" and node.saved
        for storage in (node.output.storage, *node.saved)
        if storage.name.startswith("attention output")
    ]
    return _total(dict.fromkeys((*chosen, *attention)))


def _forward_peak(tape: Tape, saved: set[Storage], output: Tensor) -> Int:
    held = saved | set(tape.held) | {output.storage}
    last_use = _last_uses(tape.nodes)
    live = dict.fromkeys(tensor.storage for tensor in tape.inputs)
    total: Int = _total(live)
    peak: Int = total
    for index, node in enumerate(tape.nodes):
        for storage in (node.output.storage, *node.saved):
            if storage not in live:
                live[storage] = None
                total = total + storage.size_bytes
        peak = maximum(peak, total + node.forward_scratch_bytes)
        for tensor in (*node.inputs, node.output):
            storage = tensor.storage
            if last_use[storage] == index and storage in live and storage not in held:
                del live[storage]
                total = total - storage.size_bytes
    return peak


def _backward_peak(nodes: Sequence[Node], saved: Sequence[Storage], output: Tensor, output_gradient: bool) -> Int:
    holders: dict[Storage, int] = {}
    for node in nodes:
        for storage in node.saved:
            holders[storage] = holders.get(storage, 0) + 1
    gradients = _Gradients(output, output_gradient)
    saved_bytes: Int = _total(saved)
    weight_gradients: Int = 0
    peak: Int = saved_bytes + gradients.total
    for node in reversed(nodes):
        if not node.output.needs_grad or not gradients.has(node.output):
            continue
        weight_gradients = weight_gradients + node.weight_gradient_bytes
        gradients.step(node)
        released = _total(node.saved) if node.in_runs else 0
        peak = maximum(
            peak,
            saved_bytes - released + weight_gradients + gradients.peak + node.backward_scratch_bytes,
        )
        for storage in node.saved:
            holders[storage] -= 1
            if holders[storage] == 0:
                saved_bytes = saved_bytes - storage.size_bytes
    return peak


class _Gradients:
    """Gradients waiting to be consumed, by tensor; a sum passes one buffer to both of its inputs.

    Accumulation happens in place when the engine holds the only reference and in a new buffer otherwise
    (``torch/csrc/autograd/input_buffer.cpp``).
    """

    def __init__(self, output: Tensor, present: bool) -> None:
        first = Storage("gradient", "gradients", output.size_bytes if present else 0 * output.size_bytes)
        self._of: dict[Tensor, Storage] = {output: first}
        self._holders: dict[Storage, int] = {first: 1}
        self.total: Int = first.size_bytes
        self.peak: Int = self.total

    def has(self, tensor: Tensor) -> bool:
        return tensor in self._of

    def step(self, node: Node) -> None:
        """Consume the gradient of the node's output and produce those of its inputs."""
        incoming = self._of.pop(node.output)
        produced: list[tuple[Tensor, Storage]] = []
        for tensor in dict.fromkeys(node.inputs):
            if not tensor.needs_grad or (node.name == "split" and tensor in self._of):
                continue
            if node.passes_gradient and tensor.dtype == node.output.dtype:
                produced.append((tensor, self._retain(incoming)))
            else:
                produced.append((tensor, self._new(tensor.size_bytes)))
        self.peak = self.total
        self._release(incoming)
        for tensor, gradient in produced:
            self._accumulate(tensor, gradient)

    def _accumulate(self, tensor: Tensor, gradient: Storage) -> None:
        waiting = self._of.get(tensor)
        if waiting is None:
            self._of[tensor] = gradient
            return
        if self._holders[waiting] > 1:
            total = self._new(tensor.size_bytes)
            self.peak = maximum(self.peak, self.total)
            self._release(waiting)
            self._of[tensor] = total
        self._release(gradient)

    def _new(self, size_bytes: Int) -> Storage:
        storage = Storage("gradient", "gradients", size_bytes)
        self._holders[storage] = 1
        self.total = self.total + size_bytes
        return storage

    def _retain(self, storage: Storage) -> Storage:
        self._holders[storage] += 1
        return storage

    def _release(self, storage: Storage) -> None:
        self._holders[storage] -= 1
        if self._holders[storage] == 0:
            self.total = self.total - storage.size_bytes


def _total(storages: Sequence[Storage] | dict[Storage, None]) -> Int:
    return sum((storage.size_bytes for storage in storages), start=0)
