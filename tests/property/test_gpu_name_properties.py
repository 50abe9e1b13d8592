"""Whatever is typed as a GPU name ends in a GPU or in the one error, and vendor words change nothing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_db.catalog import UnknownGpuError, all_gpus, find_gpu

gpus = st.sampled_from(all_gpus())


@given(name=st.text(max_size=60) | st.from_regex(r"[ahlrtxg0-9 ()-]{1,20}(gb|g)?", fullmatch=True))
def test_any_text_ends_in_a_gpu_or_the_one_error(name: str) -> None:
    with contextlib.suppress(UnknownGpuError):
        assert find_gpu(name) in all_gpus()


@given(gpu=gpus, vendor=st.sampled_from(["", "NVIDIA ", "AMD Instinct ", "GeForce "]), upper=st.booleans())
def test_vendor_words_case_and_dashes_change_nothing(gpu, vendor: str, upper: bool) -> None:  # type: ignore[no-untyped-def]
    name = vendor + gpu.name.replace(" ", "-")
    assert find_gpu(name.upper() if upper else name.lower()) is gpu


@given(gpu=gpus)
def test_a_stated_size_that_no_variant_has_is_refused(gpu) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UnknownGpuError):
        find_gpu(f"{gpu.name.split('GB')[0]} 777GB")
