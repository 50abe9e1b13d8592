"""Out-of-memory messages: every wording is read, and what is said of them follows from their numbers."""

# ruff: noqa: E501 - messages are quoted as they are printed
from __future__ import annotations

from dataclasses import replace

import pytest

from planner.model import registry
from planner.request import EvaluationSpec, PlanRequest, ServingWorkload, TrainingWorkload
from planner.units import GIB, MIB
from validate.oom.diagnosis import explain
from validate.oom.message import Cause, parse, phase_of
from validate.oom.remedies import general, suggest

LECTURE = """Traceback (most recent call last):
  File "finetune.py", line 71, in <module>
    trainer.train()
  File "/usr/lib/python3/site-packages/transformers/trainer.py", line 3280, in evaluation_loop
    all_preds = logits if all_preds is None else nested_concat(all_preds, logits, padding_index=-100)
  File "/usr/lib/python3/site-packages/transformers/trainer_pt_utils.py", line 86, in torch_pad_and_concatenate
    return torch.cat((tensor1, tensor2), dim=0)
torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 5.64 GiB. GPU 0 has a total capacty of 14.75
GiB of which 5.47 GiB is free. Process 2741 has 9.27 GiB memory in use. Of the allocated memory 7.58 GiB is
allocated by PyTorch, and 1.57 GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is
large try setting max_split_size_mb to avoid fragmentation.
"""
CLASSIC = (
    "RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 4; 31.75 GiB total capacity; 30.29 GiB already "
    "allocated; 3.75 MiB free; 30.40 GiB reserved in total by PyTorch)"
)
CACHED = (
    "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 7.79 GiB total capacity; 5.20 GiB already allocated; \
1.04 GiB free; 153.60 MiB cached)"
)
LIMITED = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has a total capacity of 79.15 GiB of "
    "which 70.00 GiB is free. 8.00 GiB allowed; Of the allocated memory 6.50 GiB is allocated by PyTorch, and 100.00 "
    "MiB is reserved by PyTorch but unallocated."
)
SHARED = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 256.00 MiB. GPU 1 has a total capacity of 23.69 GiB "
    "of which 100.00 MiB is free. Process 11 has 9.00 GiB memory in use. Process 12 has 4.00 GiB memory in use. "
    "Including non-PyTorch memory, this process has 10.00 GiB memory in use. Of the allocated memory 9.40 GiB is "
    "allocated by PyTorch, with 22.00 MiB allocated in private pools (e.g., CUDA Graphs), and 50.00 MiB is reserved by "
    "PyTorch but unallocated."
)


def gib(number: float) -> int:
    return round(number * GIB)


def test_the_lectures_message_is_fragmentation_while_predictions_pile_up() -> None:
    message = parse(LECTURE)
    assert message is not None
    assert message.requested_bytes == gib(5.64)
    assert (message.total_bytes, message.free_bytes) == (gib(14.75), gib(5.47))
    assert (message.allocated_bytes, message.unallocated_bytes) == (gib(7.58), gib(1.57))
    assert message.process_bytes == gib(9.27)
    assert message.other_processes_bytes == 0
    assert message.cause is Cause.FRAGMENTATION
    assert message.phase == "eval"
    said = " ".join(explain(message))
    assert "7.04 GiB, enough for 5.64 GiB" in said
    assert "concatenated during evaluation" in said
    options = [change.option for change in general(message)]
    assert options[0] == "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
    assert "eval_accumulation_steps=1" in options


@pytest.mark.parametrize(
    ("text", "cause", "requested", "free", "allocated"),
    [
        (CLASSIC, Cause.FRAGMENTATION, 20 * MIB, round(3.75 * MIB), gib(30.29)),
        (CACHED, Cause.NEED, gib(2), gib(1.04), gib(5.2)),
        (LIMITED, Cause.LIMIT, gib(3), gib(70), gib(6.5)),
        (SHARED, Cause.OTHER_PROCESSES, 256 * MIB, 100 * MIB, gib(9.4)),
        (CLASSIC.replace("CUDA", "HIP"), Cause.FRAGMENTATION, 20 * MIB, round(3.75 * MIB), gib(30.29)),
        (
            "MPS backend out of memory (MPS allocated: 17.70 GB, other allocations: 384.00 KB, max allowed: 18.13 GB). "
            "Tried to allocate 512.00 MB on private pool.",
            Cause.NEED, 512 * MIB, gib(18.13) - gib(17.7) - 384 * 1024, gib(17.7),
        ),
        (
            "ValueError: Free memory on device cuda:0 (12.5/79.25 GiB) on startup is less than desired GPU memory "
            "utilization (0.9, 71.33 GiB). Decrease GPU memory utilization",
            Cause.OTHER_PROCESSES, gib(71.33), gib(12.5), None,
        ),
    ],
)  # fmt: skip
def test_every_wording_is_read(text: str, cause: Cause, requested: int, free: int, allocated: int | None) -> None:
    message = parse(f"step 12\n{text}\nmore log")
    assert message is not None
    assert message.cause is cause
    assert message.requested_bytes == requested
    assert message.free_bytes == free
    assert message.allocated_bytes == allocated
    assert explain(message)


@pytest.mark.parametrize(
    ("text", "backend", "cause"),
    [
        ("RuntimeError: CUDA error: out of memory", "CUDA", Cause.UNKNOWN),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "CUDA", Cause.UNKNOWN),
        ("ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`", "vLLM",
         Cause.UNKNOWN),
        ("ggml_backend_cuda_buffer_type_alloc_buffer: allocating 590.07 MiB on device 0: cudaMalloc failed: out of memory",
         "llama.cpp", Cause.UNKNOWN),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 134217728 bytes. Error 12",
         "CPU", Cause.HOST),
        ("Out of memory: Killed process 4242 (python) total-vm:1kB", "host", Cause.HOST),
        ("XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4294967296 bytes.", "JAX",
         Cause.UNKNOWN),
    ],
)  # fmt: skip
def test_messages_without_numbers_are_still_named(text: str, backend: str, cause: Cause) -> None:
    message = parse(text)
    assert message is not None
    assert (message.backend, message.cause) == (backend, cause)
    assert explain(message)


@pytest.mark.parametrize("text", ["", "all is well", "loss 0.31 at step 12", "out of memory? no", "\x00\xff" * 50])
def test_other_text_is_not_an_out_of_memory_message(text: str) -> None:
    assert parse(text) is None


def test_several_ranks_count_and_the_message_with_numbers_is_read() -> None:
    message = parse(f"[rank1]: RuntimeError: CUDA error: out of memory\n[rank0]: {CLASSIC}\n")
    assert message is not None
    assert message.num_messages == 2
    assert message.device == 4


@pytest.mark.parametrize(
    ("line", "phase"),
    [
        ('File "torch/optim/adamw.py", line 243, in step', "optimizer step"),
        ("    loss.backward()", "backward"),
        ('File "transformers/modeling_utils.py", line 10, in from_pretrained', "load"),
        ("    loss = loss_function(logits=logits, labels=labels)", "loss"),
        ('File "transformers/models/llama/modeling_llama.py", line 3, in forward', "forward"),
        ('File "transformers/generation/utils.py", line 9, in generate', "generate"),
        ('File "vllm/worker/worker.py", line 9, in determine_num_available_blocks', "profile run"),
    ],
)
def test_the_traceback_tells_the_phase(line: str, phase: str) -> None:
    assert phase_of(f'  File "x.py", line 1, in main\n  {line}\n') == (phase, line.strip())


def test_savings_are_predicted_and_sorted_out_by_what_fits() -> None:
    architecture = registry.resolve("Llama-3.2-1B").architecture
    assert architecture is not None
    workload = TrainingWorkload(
        method="full", batch_size=8, seq_len=1024, gradient_checkpointing="none",
        evaluation=EvaluationSpec(gathers_logits=True, num_samples=10),
    )  # fmt: skip
    request = PlanRequest(model="Llama-3.2-1B", workload=workload)
    remedies = suggest(request, architecture, None, gib(24), None, parse(LECTURE))
    predicted = [change for change in remedies.changes if change.device_bytes is not None]
    assert predicted
    for change in predicted:
        assert change.saving_bytes == remedies.predicted_bytes - (change.device_bytes or 0) > 0
        assert change.fits == ((change.device_bytes or 0) <= gib(24))
    by_option = {change.option: change for change in remedies.changes}
    assert by_option["--batch-size 1 --gradient-accumulation-steps 8"].fits
    gathered = by_option["--eval-accumulation-steps 1"].saving_bytes
    assert gathered == 2 * 10 * 1024 * architecture.vocab_size * 2
    impossible = suggest(replace(request, workload=workload), architecture, None, 64 * MIB, None)
    assert impossible.together is None
    assert not any(change.fits for change in impossible.changes)


def test_changes_that_fit_only_together_are_offered_together() -> None:
    architecture = registry.resolve("Llama-3.2-1B").architecture
    assert architecture is not None
    workload = TrainingWorkload(method="full", batch_size=8, seq_len=1024, gradient_checkpointing="none")
    request = PlanRequest(model="Llama-3.2-1B", workload=workload)
    alone = suggest(request, architecture, None, gib(1000), None)
    least = min(change.device_bytes for change in alone.changes if change.device_bytes is not None)
    remedies = suggest(request, architecture, None, least - 1, None)
    assert remedies.together is not None
    assert (remedies.together.device_bytes or 0) < least
    assert len(remedies.together.option.split("--")) > 2


def test_serving_requests_have_their_own_changes() -> None:
    architecture = registry.resolve("Llama-3.2-1B").architecture
    assert architecture is not None
    request = PlanRequest(model="Llama-3.2-1B", workload=ServingWorkload(concurrency=8, prompt_tokens=4096))
    options = [c.option for c in suggest(request, architecture, None, gib(4), None).changes]
    assert "--batch-size 4" in options
    assert "--weight-dtype nf4" in options
