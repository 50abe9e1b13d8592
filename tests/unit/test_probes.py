"""Probes name what they cannot measure."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from planner.errors import UnsupportedError
from validate.measure.probes import nccl_bytes


@pytest.mark.skipif(dist.is_nccl_available(), reason="this torch has NCCL")
def test_a_torch_without_nccl_is_named() -> None:
    with pytest.raises(UnsupportedError, match="without NCCL"):
        nccl_bytes()
