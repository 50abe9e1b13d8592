"""The allocator's rules, one by one, and what must hold after any history of requests."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.units import GIB, KIB, MIB
from validate.trace.allocator import AllocatorSettings, CachingAllocator, SimulatedOutOfMemoryError
from validate.trace.blocks import Block, round_size, segment_size

EXPANDABLE = AllocatorSettings(expandable_segments=True)


@pytest.mark.parametrize(
    ("requested", "block"), [(1, 512), (512, 512), (513, 1024), (MIB, MIB), (MIB + 1, MIB + 512)]
)
def test_blocks_are_multiples_of_512_bytes(requested: int, block: int) -> None:
    assert round_size(requested) == block


@pytest.mark.parametrize(
    ("block", "segment"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 512, 12 * MIB),
    ],
)
def test_segments_by_size_of_the_request(block: int, segment: int) -> None:
    assert segment_size(block) == segment


def test_small_blocks_share_a_segment_and_split_down_to_512_bytes() -> None:
    allocator = CachingAllocator()
    for _ in range(4096):
        allocator.malloc(100)
    assert allocator.reserved_bytes == 2 * MIB == allocator.allocated_bytes
    allocator.malloc(1)
    assert allocator.reserved_bytes == 4 * MIB


def test_a_large_block_keeps_a_remainder_of_up_to_one_mebibyte() -> None:
    allocator = CachingAllocator()
    kept = allocator.malloc(11 * MIB)
    assert kept.size_bytes == 12 * MIB == allocator.peak_allocated_bytes
    assert allocator.peak_requested_bytes == 11 * MIB
    split = allocator.malloc(19 * MIB)
    assert split.size_bytes == 20 * MIB
    allocator.free(split)
    assert allocator.malloc(19 * MIB - 512).size_bytes == 19 * MIB - 512


def test_best_fit_takes_the_smallest_cached_block() -> None:
    allocator = CachingAllocator()
    big, small = allocator.malloc(64 * MIB), allocator.malloc(32 * MIB)
    allocator.free(big)
    allocator.free(small)
    assert allocator.malloc(30 * MIB).address == small.address
    assert allocator.reserved_bytes == 96 * MIB


def test_freed_neighbours_join_again() -> None:
    allocator = CachingAllocator()
    whole = allocator.malloc(40 * MIB)
    allocator.free(whole)
    parts = [allocator.malloc(10 * MIB) for _ in range(4)]
    for index in (1, 3, 2, 0):
        allocator.free(parts[index])
    assert allocator.malloc(40 * MIB).address == whole.address
    assert allocator.reserved_bytes == 40 * MIB


def test_streams_do_not_share_cached_blocks() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(32 * MIB, stream=0))
    allocator.malloc(32 * MIB, stream=1)
    assert allocator.reserved_bytes == 64 * MIB


def test_a_full_device_releases_cached_segments_and_retries() -> None:
    allocator = CachingAllocator(AllocatorSettings(capacity_bytes=100 * MIB))
    allocator.free(allocator.malloc(60 * MIB))
    allocator.malloc(80 * MIB)
    assert allocator.num_alloc_retries == 1
    assert allocator.reserved_bytes == 80 * MIB
    with pytest.raises(SimulatedOutOfMemoryError):
        allocator.malloc(32 * MIB)


def test_fragmentation_can_fail_a_request_that_expandable_segments_serve() -> None:
    def fragmented(settings: AllocatorSettings) -> CachingAllocator:
        allocator = CachingAllocator(settings)
        blocks = [allocator.malloc(40 * MIB) for _ in range(10)]
        for block in blocks[::2]:
            allocator.free(block)
        for _ in range(5):
            allocator.malloc(15 * MIB)
        return allocator

    plain = fragmented(AllocatorSettings(capacity_bytes=400 * MIB))
    with pytest.raises(SimulatedOutOfMemoryError):
        plain.malloc(90 * MIB)
    grown = fragmented(AllocatorSettings(capacity_bytes=400 * MIB, expandable_segments=True))
    assert grown.malloc(90 * MIB).size_bytes == 90 * MIB


def test_expandable_segments_map_20_mebibytes_at_a_time_and_reuse_what_they_grew() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    first = allocator.malloc(50 * MIB)
    assert allocator.reserved_bytes == 60 * MIB
    assert first.size_bytes == 50 * MIB
    allocator.free(first)
    allocator.malloc(70 * MIB)
    assert allocator.reserved_bytes == 80 * MIB


def test_empty_cache_keeps_only_segments_with_live_blocks() -> None:
    allocator = CachingAllocator()
    kept, freed = allocator.malloc(8 * MIB), allocator.malloc(64 * MIB)
    allocator.free(freed)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 20 * MIB
    allocator.free(kept)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0


def test_max_split_size_leaves_large_blocks_whole() -> None:
    allocator = CachingAllocator(AllocatorSettings(max_split_bytes=64 * MIB))
    allocator.free(allocator.malloc(128 * MIB))
    allocator.malloc(32 * MIB)
    assert allocator.reserved_bytes == 160 * MIB
    assert allocator.malloc(120 * MIB).size_bytes == 128 * MIB


def test_misuse_is_refused() -> None:
    allocator = CachingAllocator()
    block = allocator.malloc(1)
    allocator.free(block)
    with pytest.raises(ValueError, match="not allocated"):
        allocator.free(block)
    with pytest.raises(ValueError, match="positive"):
        allocator.malloc(0)


def assert_consistent(allocator: CachingAllocator, live: list[tuple[Block, int]]) -> None:
    """Segments tile their range, live blocks do not overlap, and every counter is a sum over blocks."""
    mapped = allocated = 0
    seen = set()
    for chain in allocator.segments():
        for left, right in pairwise(chain):
            assert left.address + left.size_bytes == right.address
            assert right.previous is left
            assert left.allocated or right.allocated or left.mapped != right.mapped
        mapped += sum(block.size_bytes for block in chain if block.mapped)
        allocated += sum(block.size_bytes for block in chain if block.allocated)
        seen |= {id(block) for block in chain if block.allocated}
    assert seen == {id(block) for block, _ in live}
    assert mapped == allocator.reserved_bytes
    assert allocated == allocator.allocated_bytes
    assert sum(size for _, size in live) == allocator.requested_bytes
    assert allocator.requested_bytes <= allocator.allocated_bytes <= allocator.reserved_bytes
    assert allocator.reserved_bytes <= allocator.peak_reserved_bytes
    assert all(block.size_bytes >= size for block, size in live)


SIZES = st.one_of(st.integers(1, 4 * KIB), st.integers(1, 2 * MIB), st.integers(1, 200 * MIB))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("malloc"), SIZES, st.integers(0, 1)),
        st.tuples(st.just("free"), st.integers(0, 10**6), st.just(0)),
        st.tuples(st.just("empty"), st.just(0), st.just(0)),
    ),
    max_size=120,
)
SETTINGS = st.builds(
    AllocatorSettings,
    capacity_bytes=st.sampled_from([None, 300 * MIB, 1 * GIB]),
    expandable_segments=st.booleans(),
    max_split_bytes=st.sampled_from([None, None, 32 * MIB]),
)


@settings(max_examples=150, deadline=None)
@given(allocator_settings=SETTINGS, steps=STEPS)
def test_every_history_conserves_memory(
    allocator_settings: AllocatorSettings, steps: list[tuple[str, int, int]]
) -> None:
    allocator = CachingAllocator(allocator_settings)
    live: list[tuple[Block, int]] = []
    for action, number, stream in steps:
        if action == "malloc":
            with suppress(SimulatedOutOfMemoryError):
                live.append((allocator.malloc(number, stream), number))
        elif action == "free" and live:
            allocator.free(live.pop(number % len(live))[0])
        elif action == "empty":
            allocator.empty_cache()
        assert_consistent(allocator, live)
        if allocator_settings.capacity_bytes is not None:
            assert allocator.peak_reserved_bytes <= allocator_settings.capacity_bytes
    for block, _ in live:
        allocator.free(block)
    allocator.empty_cache()
    assert allocator.reserved_bytes == allocator.allocated_bytes == 0


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_a_repeated_history_reserves_nothing_new(steps: list[tuple[str, int, int]]) -> None:
    """Training steps repeat: the second identical step is served from the first one's cache where all is freed."""
    allocator = CachingAllocator()

    def play() -> int:
        live: list[Block] = []
        for action, number, stream in steps:
            if action == "malloc":
                live.append(allocator.malloc(number, stream))
            elif action == "free" and live:
                allocator.free(live.pop(number % len(live)))
        for block in live:
            allocator.free(block)
        return allocator.reserved_bytes

    assert play() == play()
