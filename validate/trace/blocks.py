"""Blocks, the pools they wait in, and the sizes PyTorch gives them (``c10/core/AllocatorConfig.h``)."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from planner.units import MIB

MIN_BLOCK_BYTES = 512
SMALL_BYTES = 1 * MIB
"""Largest request served from the small pool."""
SMALL_SEGMENT_BYTES = 2 * MIB
LARGE_SEGMENT_BYTES = 20 * MIB
MIN_LARGE_BYTES = 10 * MIB
"""Requests of this size and above get a segment of their own."""
LARGE_ROUNDING_BYTES = 2 * MIB


@dataclass(slots=True, eq=False)
class Block:
    """A range of one segment: handed out, cached, or (in expandable segments) not mapped."""

    address: int
    size_bytes: int
    pool: Pool
    previous: Block | None = None
    next: Block | None = None
    allocated: bool = False
    mapped: bool = True
    requested_bytes: int = 0
    expandable: bool = False


class Pool:
    """Free blocks of one stream and size class: by size then address, unmapped ones by address."""

    def __init__(self, *, small: bool) -> None:
        self.small = small
        self.granularity_bytes = SMALL_SEGMENT_BYTES if small else LARGE_SEGMENT_BYTES
        self.free: list[tuple[int, int, Block]] = []
        self.unmapped: list[tuple[int, Block]] = []

    def insert(self, block: Block) -> None:
        if block.mapped:
            insort(self.free, (block.size_bytes, block.address, block))
        else:
            insort(self.unmapped, (block.address, block))

    def remove(self, block: Block) -> None:
        if block.mapped:
            del self.free[bisect_left(self.free, (block.size_bytes, block.address))]
        else:
            del self.unmapped[bisect_left(self.unmapped, (block.address,))]


def round_size(size_bytes: int) -> int:
    """Block size of a request: a multiple of 512 bytes, at least 512."""
    return max(MIN_BLOCK_BYTES, -(-size_bytes // MIN_BLOCK_BYTES) * MIN_BLOCK_BYTES)


def segment_size(block_bytes: int) -> int:
    """What is asked of the driver for a block of ``block_bytes`` when no cached block serves it."""
    if block_bytes <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if block_bytes < MIN_LARGE_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-block_bytes // LARGE_ROUNDING_BYTES) * LARGE_ROUNDING_BYTES


def growable_bytes(block: Block) -> int:
    """The size a free block can grow to by mapping what follows it."""
    after = block.next
    return block.size_bytes + (after.size_bytes if after is not None and not after.mapped else 0)


def link_after(block: Block, rest: Block) -> None:
    """Put ``rest`` behind ``block`` in the chain of its segment."""
    rest.previous, rest.next = block, block.next
    if block.next is not None:
        block.next.previous = rest
    block.next = rest
