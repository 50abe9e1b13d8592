"""Before a run: whether the device is free, and what a suite means on a machine."""

from __future__ import annotations

import pytest

from planner.errors import EnvironmentProblemError, UnknownNameError
from planner.units import GIB
from validate.campaign import refuse_taken
from validate.measure.environment import DeviceUse
from validate.suites import SUITES, spec_of, suite

BUSY = DeviceUse(total_bytes=80 * GIB, used_bytes=60 * GIB, processes=((11, 20 * GIB), (12, 39 * GIB)))


def test_memory_held_by_others_is_left_to_them_by_name() -> None:
    with pytest.raises(
        EnvironmentProblemError, match=r"30\.00 GiB and 20\.00 GiB .*process 12 \(39\.00 GiB\), process 11"
    ):
        refuse_taken(30 * GIB, BUSY)


def test_what_is_free_is_used_and_what_never_fits_may_fail_as_a_result() -> None:
    refuse_taken(20 * GIB, BUSY)
    refuse_taken(81 * GIB, BUSY)


def test_the_standard_matrix_is_large_enough_and_names_each_run_once() -> None:
    names = [case.name for case in suite("full")]
    assert len(names) == len(set(names))
    assert len(suite("standard")) >= 60
    assert {case.name for case in suite("recipes")} <= set(names)


@pytest.mark.parametrize("name", list(SUITES))
def test_every_case_can_be_built_at_full_size_and_shrunk(name: str) -> None:
    for case in suite(name):
        real, _ = spec_of(case, "cuda")
        tiny, architecture = spec_of(case, "cpu")
        assert real.workload == case.workload
        assert case.keeps_size or architecture.params_total < 2_000_000, case.name
        assert case.keeps_size or tiny.step_lengths == () or max(tiny.step_lengths) <= 32


def test_one_run_is_found_by_its_name_and_a_wrong_name_lists_the_suites() -> None:
    assert [case.name for case in suite("mistral-r64-qv")] == ["mistral-r64-qv"]
    with pytest.raises(UnknownNameError) as caught:
        suite("standart")
    assert "standard" in (caught.value.hint or "")
