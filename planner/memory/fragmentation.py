"""Cached memory that is of no use at the peak: why reserved memory exceeds allocated memory in training.

PyTorch's caching allocator serves a request from one cached block that is large enough, on the stream it was made
for, and takes new memory where there is none. So what stays cached beside the peak is known by cause: blocks
smaller than the logits that follow them, half-precision logits among fp32 ones, the buffers of other streams, and
what was left over from loading. Held against replays of traced steps by tests/trace.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.citation import Citation
from planner.dtypes import ELEMENT_BYTES
from planner.memory.breakdown import MemoryTerm
from planner.memory.frameworks import FrameworkTraits
from planner.memory.ops import Int, maximum, minimum, where
from planner.memory.resident import Resident
from planner.memory.sharding import Shares, Units
from planner.memory.step import StepMemory
from planner.quantity import Quantity
from planner.units import MIB

ALLOCATOR = Citation(
    title="PyTorch: caching allocator, best fit among cached blocks, segments of 2, 20 and 2 n MiB",
    url="https://github.com/pytorch/pytorch/blob/v2.9.0/c10/cuda/CUDACachingAllocator.cpp",
)
_PARTLY_FILLED_BYTES = 22 * MIB
"""One segment of 2 and one of 20 MiB that are not full."""
_GATHERED_BLOCKS = 3
"""Layers FSDP's stream holds at once: in use, prefetched, and freed but not yet passed by the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What a step leaves cached, in bytes on one rank."""

    step: StepMemory
    held: Resident
    share: Shares
    unit: Units
    traits: FrameworkTraits
    keeps_outputs: bool
    loading_bytes: Int
    """The largest matrix that passes through the device while packed weights are loaded. Of the block it leaves,
    what follows uses all or nothing; half is expected.
    """
    expert_copy_bytes: Int
    """The larger of the copies an adapter makes of a layer's fused experts: the smaller one's gradient takes its
    block only in part.
    """

    def unused_bytes(self, phase: str, moving_bytes: Int, gathered_bytes: Int) -> Int:
        """Cached bytes ``phase`` cannot use while ``moving_bytes`` of its own are alive."""
        if phase == "load":
            return self._left_over(moving_bytes) + self.loading_bytes // 2 + _PARTLY_FILLED_BYTES
        unused = self._gather_stream(gathered_bytes) + self._gradient_stream(phase)
        if phase == "loss backward":
            unused = unused + self._stranded_logits()
        if phase in ("loss backward", "backward", "end of backward"):
            unused = unused + self.expert_copy_bytes
        if self.traits.expandable_segments:
            return unused
        unused = unused + self._rounding() + self._left_over(moving_bytes)
        return unused + self._smaller_than_logits() if phase == "loss backward" else unused

    def _rounding(self) -> Int:
        """Segments end on multiples of 2 MiB, half of it unused on average; small tensors share 20 MiB."""
        kept = self.step.kept_bytes
        return minimum(self.step.num_kept * MIB, kept // 20) + _PARTLY_FILLED_BYTES

    def _smaller_than_logits(self) -> Int:
        """The forward temporaries of a layer, or, where larger than all a step keeps, what the optimizer left."""
        return maximum(self.step.cached_bytes, self._left_by_optimizer() - self.step.kept_bytes)

    def _left_by_optimizer(self) -> Int:
        """Gradients and temporaries of the step before, less what its states spared of the loss's own blocks.

        The states are made in whatever the first backward pass left, and blocks of the loss that they cut up are
        made anew, unless gradients and temporaries of the embedding are as large: two blocks that serve for half
        of the loss's four.
        """
        if not self.share.optimizer_on_gpu:
            return 0
        tensors, tail = self.held.tensors, self.step.tail
        element = ELEMENT_BYTES[tensors.dtype]
        accumulated = self.held.kept_gradients.size_bytes
        left = self.held.rule.list_temporaries * tensors.num_params * element
        left = left + where(accumulated > 0, 0, self.held.reduced_gradients.size_bytes)
        loss = tail.memory.backward_peak_bytes + self._stranded_logits()
        return left - where(tensors.largest * element >= tail.block_bytes, loss // 2, 0)

    def _stranded_logits(self) -> Int:
        """Half-precision logits fit nothing among fp32 ones, unless the loop holds on to them."""
        tail = self.step.tail
        return 0 if self.keeps_outputs and tail.returns_stranded else tail.stranded_bytes

    def _gather_stream(self, gathered_bytes: Int) -> Int:
        """Blocks of the stream parameters are gathered on, beyond those that hold some now.

        FSDP1 uses parameters where they were gathered; FSDP2 copies them out, so that nothing stays in them.
        """
        whole = self.unit.root_bytes + _GATHERED_BLOCKS * self.unit.block_bytes
        in_use = gathered_bytes if self.traits.fsdp_version == 1 else self.unit.block_bytes
        return where(self.share.parameters > 1, maximum(whole - in_use, 0), 0)

    def _gradient_stream(self, phase: str) -> Int:
        """Reduced gradients come from the stream that reduces them, which keeps their blocks."""
        if self.traits.fsdp_version == 0 or phase in ("end of backward", "optimizer step"):
            return 0
        return where(self.share.gradients > 1, self.held.reduced_gradients.size_bytes, 0)

    def _left_over(self, moving_bytes: Int) -> Int:
        """FSDP1 moves a unit to the GPU and joins it into one flat copy; both stay cached once it is sharded."""
        if self.traits.fsdp_version != 1:
            return 0
        left = 2 * (self.unit.root_bytes + self.unit.block_bytes)
        return where(self.share.parameters > 1, maximum(left - moving_bytes, 0), 0)


def slack_term(
    cache: Cache, phase: str, *, resident_bytes: Int, moving_bytes: Int, gathered_bytes: Int
) -> MemoryTerm:
    """Reserved but not allocated at the peak of ``phase``: a band, as it depends on the order of past batches.

    ``resident_bytes`` were allocated once and fill their segments; ``moving_bytes`` come and go.
    """
    unused = cache.unused_bytes(phase, moving_bytes, gathered_bytes)
    return MemoryTerm(
        kind="slack",
        label="allocator slack",
        size_bytes=unused,
        low_bytes=minimum(2 * MIB + 0 * moving_bytes, unused),
        high_bytes=64 * MIB + moving_bytes // 6 + resident_bytes // 200 + unused,
        formula="rounding + blocks too small for what follows + other streams + left from loading",
        inputs={"resident": resident_bytes, "moving": moving_bytes},
        source=ALLOCATOR,
        counts_in=Quantity.RESERVED,
    )
