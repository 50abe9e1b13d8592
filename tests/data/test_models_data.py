"""The shipped model descriptions against the reconciled counts stored with them."""

from __future__ import annotations

import pytest

from planner.model.registry import RegistryEntry, all_models


@pytest.mark.parametrize("entry", all_models(), ids=lambda entry: entry.id)
def test_description_counts_to_the_stored_total(entry: RegistryEntry) -> None:
    assert entry.architecture().params_total == entry.params_total
