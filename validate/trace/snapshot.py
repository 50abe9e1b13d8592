"""A traced run in the format of ``torch.cuda.memory._dump_snapshot``, which the PyTorch visualiser opens.

The page https://pytorch.org/memory_viz reads a pickle of segments and a history of allocator actions.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from validate.trace.allocator import CachingAllocator, SimulatedOutOfMemoryError
from validate.trace.blocks import Block
from validate.trace.events import HOST, EventLog, Kind


def snapshot(log: EventLog) -> dict[str, Any]:
    """The history of actions and the segments left at the end, as PyTorch records them."""
    allocator = CachingAllocator()
    live: dict[int, tuple[Block, list[dict[str, Any]]]] = {}
    history: list[dict[str, Any]] = []
    number, phase = 0, "load"
    host = log.find(HOST)
    for time_us, (kind, first, second, third) in enumerate(log.rows):
        if kind is Kind.ALLOC:
            if first and log.categories[number] != host:
                try:
                    block = allocator.malloc(first)
                except SimulatedOutOfMemoryError:
                    break
                frames = _frames(log, second, third, log.category_of(number), phase)
                live[number] = (block, frames)
                history.append(_action("alloc", block.address, first, frames, time_us))
            number += 1
        elif kind is Kind.FREE and first in live:
            block, frames = live.pop(first)
            size = block.requested_bytes
            history.append(_action("free_requested", block.address, size, frames, time_us))
            history.append(_action("free_completed", block.address, size, frames, time_us))
            allocator.free(block)
        elif kind is Kind.PHASE:
            phase = f"{log.names[first]}, step {second}"
        elif kind is Kind.EMPTY_CACHE:
            allocator.empty_cache()
    frames_of = {block.address: frames for block, frames in live.values()}
    return {
        "segments": [_segment(chain, frames_of) for chain in allocator.segments()],
        "device_traces": [history],
        "allocator_settings": {"expandable_segments": False},
    }


def save_snapshot(log: EventLog, path: Path) -> None:
    path.write_bytes(pickle.dumps(snapshot(log), protocol=4))


def _frames(log: EventLog, op: int, module: int, category: str, phase: str) -> list[dict[str, Any]]:
    return [
        {"filename": log.names[module] or "-", "line": 0, "name": log.names[op]},
        {"filename": category, "line": 0, "name": phase},
    ]


def _action(action: str, address: int, size: int, frames: list[dict[str, Any]], time_us: int) -> dict[str, Any]:
    return {"action": action, "addr": address, "size": size, "stream": 0, "frames": frames, "time_us": time_us}


def _segment(chain: tuple[Block, ...], frames_of: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    blocks = [
        {
            "address": block.address,
            "size": block.size_bytes,
            "requested_size": block.requested_bytes,
            "state": "active_allocated" if block.allocated else "inactive",
            "frames": frames_of.get(block.address, []),
        }
        for block in chain
    ]
    total = sum(block.size_bytes for block in chain)
    allocated = sum(block.size_bytes for block in chain if block.allocated)
    return {
        "device": 0,
        "address": chain[0].address,
        "total_size": total,
        "allocated_size": allocated,
        "active_size": allocated,
        "requested_size": sum(block.requested_bytes for block in chain if block.allocated),
        "stream": 0,
        "segment_type": "small" if chain[0].pool.small else "large",
        "is_expandable": chain[0].expandable,
        "segment_pool_id": (0, 0),
        "frames": [],
        "blocks": blocks,
    }
