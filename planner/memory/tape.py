"""Programs of a miniature autograd: which tensors a block of a model makes, and which autograd keeps.

A block is written as a short program on a `Tape`. Each operation states what PyTorch's autograd saves for it;
``planner.memory.tape_memory`` tells from the program how high memory climbs.

Sizes are bytes, ints or int64 arrays; which tensor requires a gradient is a plain bool, so the control flow is
the same for one request and for a table of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.dtypes import ELEMENT_BYTES
from planner.memory.ops import Int


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
