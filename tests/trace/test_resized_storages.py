"""A storage resized in place is memory released and taken again, on real tensors and on fake ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from validate.trace.events import EventLog, Kind
from validate.trace.fake import fake_tensors
from validate.trace.replay import replay
from validate.trace.tracer import Tracer

MATRIX_BYTES = 4 * 256 * 256


@pytest.fixture(params=[nullcontext, fake_tensors], ids=["real", "fake"])
def tensors(request: pytest.FixtureRequest) -> Iterator[None]:
    make: Callable[[], AbstractContextManager[object]] = request.param
    with make():
        yield


def traced(program: Callable[[], object]) -> EventLog:
    tracer = Tracer()
    with tracer:
        program()
    return tracer.log


@pytest.mark.usefixtures("tensors")
def test_a_storage_emptied_in_place_is_free_until_it_is_filled_again() -> None:
    def program() -> torch.Tensor:
        gathered = torch.empty(256, 256)
        gathered.untyped_storage().resize_(0)
        other = torch.empty(256, 256)
        del other
        gathered.untyped_storage().resize_(MATRIX_BYTES)
        return gathered

    log = traced(program)
    assert replay(log).peak_allocated_bytes == MATRIX_BYTES
    sizes = [size for kind, size, _, _ in log.rows if kind is Kind.ALLOC]
    assert sizes == [MATRIX_BYTES, 0, MATRIX_BYTES, MATRIX_BYTES]


@pytest.mark.usefixtures("tensors")
def test_a_tensor_that_outgrows_its_storage_holds_both_while_it_is_copied() -> None:
    log = traced(lambda: torch.empty(256, 256).resize_(512, 256))
    assert replay(log).peak_allocated_bytes == 3 * MATRIX_BYTES


def test_the_tracer_leaves_storages_as_it_found_them() -> None:
    resize = torch.UntypedStorage.resize_
    traced(lambda: torch.empty(1))
    assert torch.UntypedStorage.resize_ is resize
