"""TRL's output head on a CUDA device: Triton kernels that write in place where the CPU build runs torch operators.

The kernels fold tiles of logits and accumulate gradient products in fp32 in place. They score only positions that
carry a label; here all do, as in batches without padding.

Source: https://github.com/huggingface/trl/blob/v1.16.0/trl/kernels/chunked_logprob.py
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from validate.trace.fake import replaced


@contextmanager
def triton_head() -> Iterator[None]:
    """Inside, TRL's head allocates what it allocates on a GPU; nothing changes where TRL has no such head."""
    try:
        from trl.kernels import chunked_logprob
    except ImportError:
        yield
        return
    names = ("_forward_tile", "_backward_tile", "_addmm_fp32")
    with replaced(*((chunked_logprob, name, _in_place) for name in names if hasattr(chunked_logprob, name))):
        yield


def _in_place(*_args: Any, **_kwargs: Any) -> None:
    """A kernel without memory of its own."""
