"""Several ranks of one run on this machine's CPU, as ``accelerate launch`` starts them on GPUs.

The ranks meet through a file, so there is no port that another process could take between its choice and its use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path


def run_ranks(num_ranks: int, program: Callable[[], int], meeting: Path) -> int:
    """Run ``program`` in ``num_ranks`` processes that meet in the file ``meeting``; 0 where all of them return 0.

    Else the exit status of the first that fails. Where a signal ended it, this process ends by the same one.
    """
    from torch.multiprocessing.spawn import ProcessExitedException, spawn

    try:
        spawn(_rank, args=(num_ranks, program, meeting), nprocs=num_ranks)  # type: ignore[no-untyped-call]
    except ProcessExitedException as error:
        if error.exit_code < 0:
            os.kill(os.getpid(), -error.exit_code)
        return error.exit_code
    return 0


def _rank(rank: int, num_ranks: int, program: Callable[[], int], meeting: Path) -> None:
    import torch.distributed as dist

    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "LOCAL_WORLD_SIZE": num_ranks}
    os.environ.update({name: str(value) for name, value in place.items()})
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=num_ranks)
    code = program()
    if code == 0:
        # A rank that left while another still talks to it would end that one with an error.
        dist.barrier()
        dist.destroy_process_group()
    sys.exit(code)
