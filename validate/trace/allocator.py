"""A simulation of PyTorch's CUDA caching allocator: which blocks and segments a series of requests leaves.

Follows ``c10/cuda/CUDACachingAllocator.cpp`` of PyTorch 2.13 (``round_size``, ``get_free_block``, ``alloc_block``,
``should_split``, ``free_block``, ``release_cached_blocks``, ``map_block``, ``unmap_block``); sizes in
``validate.trace.blocks``. Not modelled: graph pools, garbage collection and blocks waiting on another
stream's events (so *active* equals *allocated* here).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from planner.citation import Citation
from planner.units import TIB
from validate.trace.blocks import (
    LARGE_SEGMENT_BYTES,
    MIN_BLOCK_BYTES,
    SMALL_BYTES,
    Block,
    Pool,
    growable_bytes,
    link_after,
    round_size,
    segment_size,
)

SOURCE = Citation(
    title="PyTorch CUDACachingAllocator",
    url="https://github.com/pytorch/pytorch/blob/v2.13.0/c10/cuda/CUDACachingAllocator.cpp",
)
_UNLIMITED_ADDRESS_SPACE_BYTES = 64 * TIB


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorSettings:
    """What ``PYTORCH_ALLOC_CONF`` and the device decide."""

    capacity_bytes: int | None = None
    """Memory the driver can hand out; None: without limit."""
    expandable_segments: bool = False
    max_split_bytes: int | None = None
    """``max_split_size_mb``: larger blocks are neither split nor given to smaller requests."""


class SimulatedOutOfMemoryError(Exception):
    """The simulated device cannot serve a request even after its cached blocks were released."""

    def __init__(self, size_bytes: int, reserved_bytes: int) -> None:
        super().__init__(f"{size_bytes} bytes requested with {reserved_bytes} reserved")
        self.size_bytes = size_bytes
        self.reserved_bytes = reserved_bytes


class CachingAllocator:
    """One device. All counters are bytes; ``peak_*`` are the largest values since ``reset_peaks``."""

    def __init__(self, settings: AllocatorSettings | None = None) -> None:
        self.settings = settings or AllocatorSettings()
        self.allocated_bytes = self.requested_bytes = self.reserved_bytes = 0
        self.peak_allocated_bytes = self.peak_requested_bytes = self.peak_reserved_bytes = 0
        self.num_alloc_retries = 0
        self._pools: dict[tuple[int, bool], Pool] = {}
        self._segments: dict[int, Block] = {}
        self._next_address = 1 * TIB

    def malloc(self, size_bytes: int, stream: int = 0) -> Block:
        """Hand out a block of at least ``size_bytes`` bytes; zero bytes take no block in PyTorch either."""
        if size_bytes <= 0:
            raise ValueError("the caching allocator is only asked for positive sizes")
        size = round_size(size_bytes)
        small = size <= SMALL_BYTES
        pool = self._pools.setdefault((stream, small), Pool(small=small))
        block = self._take_free(pool, size) or self._new_block(pool, size)
        if block is None and self._release_oversize(pool, size):
            block = self._new_block(pool, size)
        if block is None:
            self._release_cached()
            self.num_alloc_retries += 1
            block = self._new_block(pool, size)
        if block is None:
            raise SimulatedOutOfMemoryError(size_bytes, self.reserved_bytes)
        if self._should_split(block, size):
            self._split(block, size)
        block.allocated = True
        block.requested_bytes = size_bytes
        self.allocated_bytes += block.size_bytes
        self.requested_bytes += size_bytes
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        self.peak_requested_bytes = max(self.peak_requested_bytes, self.requested_bytes)
        return block

    def free(self, block: Block) -> None:
        """Return a block to its pool, joined with free neighbours."""
        if not block.allocated:
            raise ValueError("block is not allocated")
        block.allocated = False
        self.allocated_bytes -= block.size_bytes
        self.requested_bytes -= block.requested_bytes
        self._merge_neighbours(block)
        block.pool.insert(block)

    def empty_cache(self) -> None:
        """``torch.cuda.empty_cache()``: give segments without a live block back to the driver."""
        self._release_cached()

    def reset_peaks(self) -> None:
        self.peak_allocated_bytes = self.allocated_bytes
        self.peak_requested_bytes = self.requested_bytes
        self.peak_reserved_bytes = self.reserved_bytes

    def segments(self) -> Iterator[tuple[Block, ...]]:
        """Every segment as its chain of blocks in address order."""
        for head in self._segments.values():
            chain = []
            block: Block | None = head
            while block is not None:
                chain.append(block)
                block = block.next
            yield tuple(chain)

    # --- finding a block -------------------------------------------------------------------------

    def _take_free(self, pool: Pool, size: int) -> Block | None:
        index = bisect_left(pool.free, (size,))
        if index == len(pool.free):
            return None
        block = pool.free[index][2]
        if self.settings.expandable_segments:
            # Best fit by the size a block can grow to, not by its present size.
            while index + 1 < len(pool.free) and growable_bytes(pool.free[index + 1][2]) < growable_bytes(block):
                index += 1
                block = pool.free[index][2]
        limit = self.settings.max_split_bytes
        if limit is not None:
            if size < limit <= block.size_bytes:
                return None
            if size >= limit and block.size_bytes >= size + LARGE_SEGMENT_BYTES:
                return None
        pool.remove(block)
        return block

    def _new_block(self, pool: Pool, size: int) -> Block | None:
        if self.settings.expandable_segments:
            return self._grow_expandable(pool, size)
        segment_bytes = segment_size(size)
        if not self._reserve(segment_bytes):
            return None
        return self._new_segment(pool, segment_bytes)

    def _new_segment(self, pool: Pool, size: int) -> Block:
        block = Block(self._next_address, size, pool)
        self._next_address += size
        self._segments[block.address] = block
        return block

    def _reserve(self, size: int) -> bool:
        capacity = self.settings.capacity_bytes
        if capacity is not None and self.reserved_bytes + size > capacity:
            return False
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        return True

    def _should_split(self, block: Block, size: int) -> bool:
        remaining = block.size_bytes - size
        if block.pool.small or self.settings.expandable_segments:
            return remaining >= MIN_BLOCK_BYTES
        limit = self.settings.max_split_bytes
        return (limit is None or size < limit) and remaining > SMALL_BYTES

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.address + size, block.size_bytes - size, block.pool, expandable=block.expandable)
        block.size_bytes = size
        link_after(block, rest)
        block.pool.insert(rest)

    # --- giving memory back ----------------------------------------------------------------------

    def _merge_neighbours(self, block: Block) -> None:
        before, after = block.previous, block.next
        if before is not None and not before.allocated and before.mapped == block.mapped:
            before.pool.remove(before)
            if self._segments.get(before.address) is before:
                self._segments[before.address] = block
            block.address = before.address
            block.size_bytes += before.size_bytes
            block.previous = before.previous
            if before.previous is not None:
                before.previous.next = block
        if after is not None and not after.allocated and after.mapped == block.mapped:
            after.pool.remove(after)
            block.size_bytes += after.size_bytes
            block.next = after.next
            if after.next is not None:
                after.next.previous = block

    def _release_cached(self) -> None:
        for pool in sorted(self._pools.values(), key=lambda pool: pool.small):
            for _, _, block in list(pool.free):
                if block.expandable:
                    self._unmap(block)
                elif block.previous is None and block.next is None:
                    self._release_segment(block)

    def _release_segment(self, block: Block) -> None:
        block.pool.remove(block)
        del self._segments[block.address]
        self.reserved_bytes -= block.size_bytes

    def _release_oversize(self, pool: Pool, size: int) -> bool:
        """With ``max_split_size_mb``: release just enough unsplittable cached blocks for ``size``."""
        limit = self.settings.max_split_bytes
        if limit is None:
            return False
        wanted = max(size, limit)
        index = bisect_left(pool.free, (wanted,))
        if index < len(pool.free):
            if pool.free[index][2].expandable:
                return False
            self._release_segment(pool.free[index][2])
            return True
        released = 0
        while released < wanted and pool.free and pool.free[-1][0] >= limit and not pool.free[-1][2].expandable:
            released += pool.free[-1][0]
            self._release_segment(pool.free[-1][2])
        return released >= wanted

    # --- expandable segments ---------------------------------------------------------------------

    def _grow_expandable(self, pool: Pool, size: int) -> Block | None:
        block = self._find_expandable(pool, size)
        if not block.mapped and not self._map(block, min(block.size_bytes, size)):
            return None
        while block.size_bytes < size:
            grown = block.next
            assert grown is not None
            if not self._map(grown, min(size - block.size_bytes, grown.size_bytes)):
                return None
            block = grown
        pool.remove(block)
        return block

    def _find_expandable(self, pool: Pool, size: int) -> Block:
        for _, unmapped in pool.unmapped:
            first = unmapped
            if first.previous is not None and not first.previous.allocated:
                first = first.previous
            room = 0
            block: Block | None = first
            while block is not None and not block.allocated and room < size:
                room += block.size_bytes
                block = block.next
            if room >= size:
                return first
        capacity = self.settings.capacity_bytes
        # The address range is an eighth larger than the device (numSegments of totalGlobalMem * 9 / 8).
        room = _UNLIMITED_ADDRESS_SPACE_BYTES if capacity is None else max(capacity + capacity // 8, size)
        room = -(-room // pool.granularity_bytes) * pool.granularity_bytes
        self._next_address = -(-self._next_address // pool.granularity_bytes) * pool.granularity_bytes
        segment = self._new_segment(pool, room)
        segment.mapped, segment.expandable = False, True
        pool.insert(segment)
        return segment

    def _map(self, block: Block, size: int) -> bool:
        granularity = block.pool.granularity_bytes
        mapped_bytes = -(-size // granularity) * granularity
        if not self._reserve(mapped_bytes):
            return False
        block.pool.remove(block)
        block.mapped = True
        if mapped_bytes < block.size_bytes:
            self._split_unmapped(block, mapped_bytes)
        self._merge_neighbours(block)
        block.pool.insert(block)
        return True

    def _split_unmapped(self, block: Block, size: int) -> None:
        rest = Block(block.address + size, block.size_bytes - size, block.pool, mapped=False, expandable=True)
        block.size_bytes = size
        link_after(block, rest)
        block.pool.insert(rest)

    def _unmap(self, block: Block) -> None:
        granularity = block.pool.granularity_bytes
        begin = -(-block.address // granularity) * granularity
        end = (block.address + block.size_bytes) // granularity * granularity
        if end <= begin:
            return
        block.pool.remove(block)
        if begin > block.address:
            head, block.address = block.address, begin
            before = Block(head, begin - head, block.pool, block.previous, block, expandable=True)
            block.size_bytes -= before.size_bytes
            if before.previous is None:
                self._segments[head] = before
            else:
                before.previous.next = before
            block.previous = before
            block.pool.insert(before)
        if block.address + block.size_bytes > end:
            after = Block(end, block.address + block.size_bytes - end, block.pool, expandable=True)
            block.size_bytes -= after.size_bytes
            link_after(block, after)
            block.pool.insert(after)
        block.mapped = False
        self.reserved_bytes -= block.size_bytes
        self._merge_neighbours(block)
        block.pool.insert(block)
        if block.previous is None and block.next is None:
            block.pool.remove(block)
            del self._segments[block.address]
