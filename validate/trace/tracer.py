"""Records the birth and death of every tensor storage while a program runs.

The tracer is a ``TorchDispatchMode``. Entered inside a ``FakeTensorMode`` it sees a run that computes nothing;
entered alone it sees real CPU tensors, and the two logs must agree. A storage that is resized in place, as FSDP2
frees and fetches whole parameters, is recorded as a release and a new allocation.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from validate.trace.buffers import WORKSPACE
from validate.trace.events import HOST, EventLog

UNKNOWN = ""
_DEVICE = torch.ops.prim.device.default


@dataclass(slots=True)
class _Storage:
    """A storage that lives, and the allocation that holds its bytes now."""

    reference: weakref.ref[Any]
    number: int
    size_bytes: int


class DevicePolicy(Protocol):
    """What the real device does besides the outputs an operator shows."""

    def temporaries(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Sequence[int]:
        """Bytes of the buffers a kernel allocates and frees while it runs."""
        ...

    def persistent(self, func: Any, *, backward: bool) -> Sequence[tuple[str, int]]:
        """Name and bytes of buffers that ``func`` allocates on its first call and never frees."""
        ...


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes an ``EventLog``; ``phase`` and ``label`` add what the storages alone do not say."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here: torch's guard around every call can be spared."""
        return False

    def __init__(self, policy: DevicePolicy | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.log = EventLog()
        self._policy = policy
        self._numbers: dict[int, _Storage] = {}
        self._resize: Any = None
        self._op_names: dict[Any, int] = {}
        self._unknown = self.log.name(UNKNOWN)
        self._module = self._unknown
        self._module_stack: list[int] = []
        self._persistent: set[str] = set()
        self._phase_name = "load"
        self._default_category = self._unknown
        self._over = False

    def finish(self) -> None:
        """The run is over: what is torn down afterwards is not part of it."""
        self._over = True

    def __enter__(self) -> Any:
        original, tracer = torch.UntypedStorage.resize_, self

        def resize_(storage: Any, size_bytes: int) -> Any:
            result = original(storage, size_bytes)
            tracer._follow(storage)
            return result

        # Storages are resized below the dispatcher, where no mode sees it.
        self._resize = original
        torch.UntypedStorage.resize_ = resize_  # type: ignore[method-assign, assignment]
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *exception: Any) -> None:
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]
        self.finish()
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    # --- what the running program says -----------------------------------------------------------

    def phase(self, name: str, step: int = 0) -> None:
        """A phase begins: load, forward, backward, optimizer, prefill, decode…"""
        self._phase_name = name
        self._module_stack.clear()
        self._module = self._unknown
        self.log.phase(name, step)

    def empty_cache(self) -> None:
        self.log.empty_cache()

    def label(self, tensors: Sequence[torch.Tensor], category: str) -> None:
        """Say what the storages of ``tensors`` are for; the first label of a storage stays, but "host" wins."""
        index = self.log.name(category)
        for tensor in tensors:
            for storage in _storages(tensor):
                entry = self._known(storage)
                if entry is not None and (self.log.categories[entry.number] == self._unknown or category == HOST):
                    self.log.categories[entry.number] = index

    def adopt(self, tensors: Sequence[torch.Tensor], category: str, op: str) -> None:
        """Record storages that were made before the tracer was entered, as if copied to the device now."""
        op_index, module = self.log.name(op), self._module
        for tensor in tensors:
            self._record(tensor, op_index, module)
        self.label(tensors, category)

    # --- modules ---------------------------------------------------------------------------------

    @contextmanager
    def watch(self, model: torch.nn.Module) -> Iterator[None]:
        """Attribute what happens inside ``model`` to its modules, in forward and (by gradient hooks) backward."""
        names = {
            id(module): self.log.name(name or type(module).__name__) for name, module in model.named_modules()
        }

        def enter(module: torch.nn.Module, _args: Any) -> None:
            self._module_stack.append(self._module)
            self._module = names.get(id(module), self._module)

        def leave(module: torch.nn.Module, _args: Any, output: Any) -> None:
            name = self._module
            if self._module_stack:
                self._module = self._module_stack.pop()
            first = output if isinstance(output, torch.Tensor) else next(iter(_tensors(output)), None)
            if first is not None and first.requires_grad and first.grad_fn is not None:
                first.register_hook(lambda _gradient: self._enter_backward(name))  # type: ignore[no-untyped-call]

        hooks = [
            torch.nn.modules.module.register_module_forward_pre_hook(enter),
            torch.nn.modules.module.register_module_forward_hook(leave),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter_backward(self, name: int) -> None:
        self._module = name

    # --- dispatch --------------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is _DEVICE and type(args[0]) is FakeTensor:
            return args[0].fake_device  # asked for several times per operator
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        op = self._op_names.get(func)
        if op is None:
            op = self._op_names[func] = self.log.name(str(func).removeprefix("aten."))
        policy = self._policy
        if policy is not None:
            for name, size_bytes in policy.persistent(func, backward=self._phase_name == "backward"):
                self._allocate_once(name, size_bytes)
        if isinstance(out, torch.Tensor):
            self._record(out, op, self._module)
        elif isinstance(out, (tuple, list)):
            for tensor in _tensors(out):
                self._record(tensor, op, self._module)
        if policy is not None:
            self._record_temporaries(policy.temporaries(func, args, kwargs, out), op)
        return out

    def _record(self, tensor: torch.Tensor, op: int, module: int) -> None:
        for storage in _storages(tensor):
            known = self._known(storage)
            if known is None:
                self._begin(storage, op, module)
            elif known.size_bytes != storage.nbytes():
                self._resized(storage, known, op, module)

    def _begin(self, storage: Any, op: int, module: int) -> None:
        key, size_bytes = id(storage), storage.nbytes()

        def gone(reference: Any) -> None:
            entry = self._numbers.get(key)
            if entry is not None and entry.reference is reference:
                del self._numbers[key]
                if not self._over:
                    self.log.free(entry.number)

        number = self.log.alloc(size_bytes, op, module, self._default_category)
        self._numbers[key] = _Storage(weakref.ref(storage, gone), number, size_bytes)

    def _known(self, storage: Any) -> _Storage | None:
        entry = self._numbers.get(id(storage))
        return entry if entry is not None and entry.reference() is storage else None

    def _follow(self, storage: Any) -> None:
        known = self._known(storage)
        if known is not None and known.size_bytes != storage.nbytes() and not self._over:
            self._resized(storage, known, self.log.name("resize_"), self._module)

    def _resized(self, storage: Any, known: _Storage, op: int, module: int) -> None:
        """Resizing takes the new bytes, copies, and releases the old ones; FSDP2 resizes from or to nothing."""
        old = known.number
        known.size_bytes = storage.nbytes()
        known.number = self.log.alloc(known.size_bytes, op, module, self.log.categories[old])
        self.log.free(old)

    def _record_temporaries(self, sizes: Sequence[int], op: int) -> None:
        category = self.log.name(WORKSPACE) if sizes else self._unknown
        numbers = [self.log.alloc(size, op, self._module, category) for size in sizes]
        for number in reversed(numbers):
            self.log.free(number)

    def _allocate_once(self, name: str, size_bytes: int) -> None:
        if name not in self._persistent:
            self._persistent.add(name)
            self.log.alloc(size_bytes, self.log.name(name), self._unknown, self.log.name(WORKSPACE))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    for leaf in tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            yield leaf


def _storages(tensor: torch.Tensor) -> Iterator[Any]:
    """The storages behind a tensor; wrapper subclasses (DTensor, quantised tensors) show those of their parts."""
    if type(tensor) is FakeTensor:
        if tensor.fake_device.type != "meta":
            yield tensor.untyped_storage()
        return
    flatten: Callable[[], tuple[list[str], Any]] | None = getattr(tensor, "__tensor_flatten__", None)
    if flatten is not None:
        for name in flatten()[0]:
            part = getattr(tensor, name)
            if isinstance(part, torch.Tensor):  # a DTensor also names its mesh
                yield from _storages(part)
    elif tensor.layout is torch.strided and tensor.device.type != "meta":
        yield tensor.untyped_storage()
