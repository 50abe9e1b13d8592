"""A model spread over ranks as the libraries spread it: FSDP2 through accelerate's own wrapping, or DDP.

One process plays one rank, on real tensors among others that play theirs, or alone on fake ones. Alone, its
collectives go to torch's "fake" backend, which returns at once and moves nothing: every buffer is made, none is
sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from planner.errors import EnvironmentProblemError
from planner.request import Parallelism, TrainingWorkload
from validate.trace.fake import replaced
from validate.trace.tracer import Tracer

GATHERED, REDUCED, BUCKETS = "gathered", "reduction", "buckets"
"""Categories of what spreading adds: whole parameters, gradients on their way to their owners, DDP's buckets."""


@contextmanager
def playing_rank(rank: int, parallelism: Parallelism) -> Iterator[DeviceMesh | None]:
    """This process is rank ``rank`` of a run whose other ranks do not exist; gives the mesh of all of them.

    ``init_process_group(backend="fake")`` is torch's public door to the fake process group; it registers the
    backend of ``torch.testing._internal.distributed.fake_pg`` by itself.
    """
    if parallelism.num_gpus == 1:
        yield None
        return
    import torch.distributed.fsdp  # its constants must be real tensors

    try:
        dist.init_process_group(backend="fake", rank=rank, world_size=parallelism.num_gpus)
    except (ImportError, ValueError, RuntimeError) as error:
        raise EnvironmentProblemError(
            f"torch {torch.__version__} has no fake process group: {error}", hint="pip install -U torch"
        ) from error
    try:
        with _keeping_shards():
            yield mesh_of(parallelism, "cpu")
    finally:
        dist.destroy_process_group()


def _keeping_shards() -> AbstractContextManager[None]:
    """FSDP2 pads its shards anew where loading changed their address; fake ones have none, and nothing loads."""
    from torch.distributed.fsdp._fully_shard._fsdp_param import FSDPParam

    return replaced((FSDPParam, "reset_sharded_param", lambda _parameter: None))


def mesh_of(parallelism: Parallelism, device: str) -> DeviceMesh | None:
    """The ranks as FSDP2 arranges them, replicas outermost; None where nothing is sharded."""
    if parallelism.dp_shard == 1:
        return None
    names = ("dp_replicate", "dp_shard") if parallelism.dp_replicate > 1 else ("dp_shard",)
    return init_device_mesh(device, tuple(getattr(parallelism, name) for name in names), mesh_dim_names=names)


def ranks_alike(model: torch.nn.Module, parallelism: Parallelism) -> list[list[int]]:
    """Ranks grouped by what they hold: FSDP2 cuts the first dimension, and the last ranks may get less of it."""
    groups: dict[tuple[int, ...], list[int]] = {}
    lengths = sorted({parameter.shape[0] for parameter in model.parameters() if parameter.dim()})
    ways = parallelism.dp_shard
    for rank in range(parallelism.num_gpus):
        place = rank % ways
        held = tuple(max(0, min(-(-length // ways), length - place * -(-length // ways))) for length in lengths)
        groups.setdefault(held if ways > 1 else (), []).append(rank)
    return list(groups.values())


def spread(model: Any, workload: TrainingWorkload, parallelism: Parallelism, mesh: DeviceMesh | None) -> Any:
    """``model`` as one rank of the initialised process group holds it. The optimizer is made afterwards."""
    if mesh is not None:
        return _sharded(model, workload, mesh, reshard_after_forward=parallelism.zero_stage == 3)
    if parallelism.dp_replicate > 1:
        return _replicated(model)
    return model


def synchronised(model: Any, *, last: bool) -> AbstractContextManager[None]:
    """Gradients are exchanged in the last micro-batch of a step only, as ``accelerator.no_sync`` in Trainer."""
    if last:
        return nullcontext()
    if hasattr(model, "set_requires_gradient_sync"):
        return _unsynchronised(model)
    return model.no_sync() if hasattr(model, "no_sync") else nullcontext()


@contextmanager
def _unsynchronised(model: Any) -> Iterator[None]:
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


def autocasts(workload: TrainingWorkload, parallelism: Parallelism) -> bool:
    """Whether the step runs under ``torch.autocast``; with FSDP2 a mixed-precision policy takes its place."""
    return workload.autocast and parallelism.dp_shard == 1


# --- FSDP2 ---------------------------------------------------------------------------------------


def _sharded(model: Any, workload: TrainingWorkload, mesh: DeviceMesh, *, reshard_after_forward: bool) -> Any:
    """The units that ``Accelerator.prepare`` makes: each layer, the embedding, norm and head, and the rest."""
    try:
        from accelerate.utils import FullyShardedDataParallelPlugin, fsdp2_prepare_model
    except ImportError as error:
        raise EnvironmentProblemError(
            f"FSDP2 needs accelerate: {error}", hint="pip install -U accelerate"
        ) from None
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=reshard_after_forward,
        auto_wrap_policy="transformer_based_wrap",
        cpu_ram_efficient_loading=False,
    )
    precision = workload.compute_dtype if workload.autocast else "no"
    if precision != "no":
        plugin.set_mixed_precision(precision)
    # What fsdp2_prepare_model reads of an Accelerator, which itself shards on accelerators only, never on a CPU.
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        torch_device_mesh=mesh,
        parallelism_config=SimpleNamespace(fsdp_dim_names=mesh.mesh_dim_names),
        mixed_precision=precision,
        is_main_process=False,
    )
    return fsdp2_prepare_model(accelerator, model)


# --- DDP -----------------------------------------------------------------------------------------


def _replicated(model: Any) -> Any:
    from torch.nn.parallel import DistributedDataParallel

    alone = dist.get_backend() == "fake"
    # On its own, a rank cannot compare its parameters with others'; their broadcast is in place.
    replica = DistributedDataParallel(model, init_sync=not alone)
    if alone:
        replica.register_comm_hook(None, _already_reduced)
        _number_buckets_for_real(replica)
    return replica


def _already_reduced(_state, bucket):  # type: ignore[no-untyped-def]  # DDP compares annotations, strings fail
    """``all_reduce`` works in place, and the fake one has nothing to wait for."""
    dist.all_reduce(bucket.buffer())
    done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


def _number_buckets_for_real(replica: Any) -> None:
    """DDP rebuilds its buckets before the second forward pass and reads tensors of indices: these must be real."""
    numbers: Any = _RealNumbers()  # type: ignore[no-untyped-call]

    def begin(*_: Any) -> None:
        numbers.__enter__()

    def end(*_: Any) -> None:
        numbers.__exit__(None, None, None)

    replica.register_forward_pre_hook(begin)
    replica.module.register_forward_pre_hook(end)


class _RealNumbers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """New 32-bit integer tensors are real ones, each holding the tensor that the log knows in its place."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.empty.memory_format and kwargs.get("dtype") is torch.int32:
            logged = func(*args, **kwargs)
            with _disable_current_modes():
                number: Any = torch.zeros(*args, dtype=torch.int32)
            number.logged = logged
            return number
        if any(hasattr(tensor, "logged") for tensor in _flat(args)):
            with _disable_current_modes():
                return func(*args, **kwargs)
        return func(*args, **kwargs)


# --- what is whose -------------------------------------------------------------------------------


class SpreadLabels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Names the buffers of collectives in the log of ``tracer``; entered after it."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tracer = tracer

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        rule = _RULES.get(str(func).rpartition(".")[0])
        if rule is not None:
            category, tensors = rule
            self._tracer.label(tensors(args, kwargs, out), category)
        return out


def _flat(value: Any) -> list[torch.Tensor]:
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


_RULES: dict[str, tuple[str, Callable[[Any, Any, Any], list[torch.Tensor]]]] = {
    "fsdp.all_gather_copy_in": (GATHERED, lambda args, kwargs, out: _flat(out)),
    "fsdp.split_with_sizes_copy": (GATHERED, lambda args, kwargs, out: _flat(kwargs["out"])),
    "fsdp.chunk_cat": (REDUCED, lambda args, kwargs, out: _flat(kwargs["out"])),
    "c10d.allreduce_": (BUCKETS, lambda args, kwargs, out: _flat(args[0])),
}
