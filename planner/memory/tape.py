"""A miniature autograd: which tensors a forward pass keeps, and how high memory climbs on the way back.

A block of a model is written as a short program on a `Tape`. Each operation states what PyTorch's autograd
saves for it; the tape then answers, without numbers ever touching a tensor,

* what is saved between forward and backward, each storage counted once however many operations save it,
* the highest point of the forward pass (temporaries included), and
* the highest point of the backward pass, where gradients appear while saved tensors are released.

Sizes are bytes, ints or int64 arrays; which tensor requires a gradient is a plain bool, so the control flow is
the same for one request and for a table of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.memory.ops import Int, maximum

ELEMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int64": 8, "int32": 4, "fp8": 1, "int8": 1, "bool": 1}


@dataclass(slots=True, eq=False)
class Storage:
    """Memory behind one or more tensors; ``kind`` names the part of the model for the reader."""

    name: str
    kind: str
    size_bytes: Int


@dataclass(slots=True, eq=False)
class Tensor:
    """A view of a storage. ``elements`` counts the view, which may be smaller than the storage."""

    storage: Storage
    elements: Int
    dtype: str
    needs_grad: bool

    @property
    def size_bytes(self) -> Int:
        return self.elements * ELEMENT_BYTES[self.dtype]


@dataclass(slots=True, eq=False)
class Node:
    """One operation: what it reads, makes, saves, and allocates for the gradients of its inputs."""

    name: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    saved: tuple[Storage, ...]
    passes_gradient: bool
    """True where the gradient of an input is the gradient of the output itself: views, sums."""
    in_runs: bool
    """True where many small operations stand behind this one: gradients grow as fast as saved tensors go."""
    forward_scratch_bytes: Int
    backward_scratch_bytes: Int
    weight_gradient_bytes: Int
    is_matmul: bool = False
    holds_input: bool = False
    """True where the input hangs on the graph's node itself and leaves only with the graph."""


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


@dataclass(slots=True)
class Tape:
    """Records a program. ``kind`` labels the storages created from now on."""

    kind: str = "activations"
    nodes: list[Node] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)
    held: list[Storage] = field(default_factory=list)

    def input(self, name: str, elements: Int, dtype: str, *, needs_grad: bool, external: bool = False) -> Tensor:
        """A tensor that exists before the program. ``external``: owned (and counted) elsewhere."""
        size = 0 if external else elements * ELEMENT_BYTES[dtype]
        tensor = Tensor(Storage(name, self.kind, size), elements, dtype, needs_grad)
        self.inputs.append(tensor)
        return tensor

    def op(
        self,
        name: str,
        inputs: Sequence[Tensor],
        elements: Int,
        dtype: str,
        *,
        saves: Sequence[Tensor] = (),
        saves_output: bool = False,
        saves_bytes: Int = 0,
        trainable: bool = False,
        passes_gradient: bool = False,
        backward_in_runs: bool = False,
        forward_scratch_bytes: Int = 0,
        backward_scratch_bytes: Int = 0,
        weight_gradient_bytes: Int = 0,
        is_matmul: bool = False,
        holds_input: bool = False,
    ) -> Tensor:
        """Record an operation with a new output storage; ``saves_bytes`` are extras such as a log-sum-exp."""
        needs_grad = trainable or any(tensor.needs_grad for tensor in inputs)
        output = Tensor(Storage(name, self.kind, elements * ELEMENT_BYTES[dtype]), elements, dtype, needs_grad)
        saved: list[Storage] = []
        if needs_grad:
            saved = [tensor.storage for tensor in saves]
            if saves_output:
                saved.append(output.storage)
            if not (isinstance(saves_bytes, int) and saves_bytes == 0):
                saved.append(Storage(f"{name} statistics", self.kind, saves_bytes))
        self.nodes.append(
            Node(
                name,
                tuple(inputs),
                output,
                tuple(saved),
                passes_gradient,
                backward_in_runs,
                forward_scratch_bytes,
                backward_scratch_bytes,
                weight_gradient_bytes,
                is_matmul,
                holds_input,
            )
        )
        return output

    def split(self, tensor: Tensor, *parts: Int) -> tuple[Tensor, ...]:
        """Views of ``parts`` elements into one storage; their gradients meet in one buffer."""
        views = []
        for elements in parts:
            view = Tensor(tensor.storage, elements, tensor.dtype, tensor.needs_grad)
            self.nodes.append(Node("split", (tensor,), view, (), False, False, 0, 0, 0))
            views.append(view)
        return tuple(views)

    def hold(self, tensor: Tensor) -> None:
        """A Python name keeps this tensor to the end of the forward pass, whether or not autograd needs it."""
        self.held.append(tensor.storage)

    def run(self, output: Tensor, *, output_gradient: bool = True) -> TapeMemory:
        """Walk forward and back. ``output_gradient``: the caller hands in a gradient the size of the output."""
        saved = tuple(dict.fromkeys(storage for node in self.nodes for storage in node.saved))
        forward_peak = self._forward_peak(set(saved), output)
        backward_peak = self._backward_peak(saved, output, output_gradient)
        return TapeMemory(
            saved=saved,
            saved_bytes=_total(saved),
            forward_peak_bytes=forward_peak,
            backward_peak_bytes=backward_peak,
            held_bytes=_total(dict.fromkeys(storage for storage in self.held if storage not in set(saved))),
            graph_bytes=_total(
                dict.fromkeys(
                    tensor.storage
                    for node in self.nodes
                    if node.holds_input and node.output.needs_grad
                    for tensor in node.inputs
                )
            ),
            selected_bytes=self._selected_bytes(),
            output_bytes=output.size_bytes,
            weight_gradient_bytes=sum(
                (node.weight_gradient_bytes for node in self.nodes if node.output.needs_grad), start=0
            ),
        )

    def _selected_bytes(self) -> Int:
        matmuls = [node.output.storage for node in self.nodes if node.is_matmul]
        attention = [
            storage
            for node in self.nodes
            if node.name == "attention output" and node.saved
            for storage in (node.output.storage, *node.saved)
            if storage.name.startswith("attention output")
        ]
        return _total(dict.fromkeys((*matmuls[::2], *attention)))

    def _forward_peak(self, saved: set[Storage], output: Tensor) -> Int:
        held = saved | set(self.held) | {output.storage}
        last_use: dict[Storage, int] = {}
        for index, node in enumerate(self.nodes):
            for tensor in (*node.inputs, node.output):
                last_use[tensor.storage] = index
        live = dict.fromkeys(tensor.storage for tensor in self.inputs)
        total: Int = _total(live)
        peak: Int = total
        for index, node in enumerate(self.nodes):
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

    def _backward_peak(self, saved: Sequence[Storage], output: Tensor, output_gradient: bool) -> Int:
        holders: dict[Storage, int] = {}
        for node in self.nodes:
            for storage in node.saved:
                holders[storage] = holders.get(storage, 0) + 1
        gradients = _Gradients(output, output_gradient)
        saved_bytes: Int = _total(saved)
        weight_gradients: Int = 0
        peak: Int = saved_bytes + gradients.total
        for node in reversed(self.nodes):
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
