"""Real training steps: a plain loop (alone or under ``accelerate``) and the Hugging Face ``Trainer``."""

from __future__ import annotations

import statistics
from collections import defaultdict
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import nn

from planner.errors import UnsupportedError
from planner.request import TrainingWorkload
from validate.measure.meter import EnergyMeter, Meter
from validate.measure.model import DTYPES
from validate.measure.several import micro_batch, with_deepspeed
from validate.measure.spec import PhaseReading, RunFacts, RunSpec
from validate.trace.parallel import autocasts

_TRAINER_OPTIMIZERS = {
    "adamw": "adamw_torch",
    "adamw-fused": "adamw_torch_fused",
    "adamw-8bit": "adamw_8bit",
    "paged-adamw": "paged_adamw_32bit",
    "paged-adamw-8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
    "lion": "lion_32bit",
    "lion-8bit": "lion_8bit",
}


def train(spec: RunSpec, model: nn.Module, meter: Meter, readings: list[PhaseReading]) -> RunFacts:
    """Run the steps of ``spec``; phases are reported through ``meter`` and collected in ``readings``."""
    workload = spec.workload
    assert isinstance(workload, TrainingWorkload)
    energy = EnergyMeter(spec.device)
    if spec.runner == "trainer":
        _with_trainer(spec, workload, model, meter, energy)
    else:
        _with_loop(spec, workload, model, meter, energy)
    joules, watts = energy.stop()
    return _facts(spec, workload, model, readings, joules, watts)


def batch_of(spec: RunSpec, workload: TrainingWorkload, seq_len: int, vocab_size: int) -> dict[str, torch.Tensor]:
    """Random tokens of the workload's shape; with ``padding_mask`` every sample but the first is padded."""
    size = (workload.batch_size, seq_len)
    batch = {"input_ids": torch.randint(0, vocab_size, size, device=spec.device)}
    if workload.padding_mask:
        mask = torch.ones(size, dtype=torch.int64, device=spec.device)
        mask[1 if workload.batch_size > 1 else 0 :, -max(1, seq_len // 8) :] = 0
        batch["attention_mask"] = mask
    if spec.head == "sequence-classification":
        batch["labels"] = torch.zeros(workload.batch_size, dtype=torch.int64, device=spec.device)
    elif spec.head == "seq2seq-lm":
        target = (workload.batch_size, workload.target_seq_len or seq_len)
        batch["labels"] = torch.randint(0, vocab_size, target, device=spec.device)
    else:
        batch["labels"] = batch["input_ids"].clone()
    return batch


def optimizer_of(name: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of a request's name, on the code path CUDA takes (foreach by default)."""
    if name in ("adamw", "adamw-forloop", "adamw-fused"):
        return torch.optim.AdamW(parameters, lr=1e-4, foreach=name == "adamw", fused=name == "adamw-fused")
    if name in ("sgd", "sgd-momentum"):
        return torch.optim.SGD(parameters, lr=1e-4, momentum=0.9 if name == "sgd-momentum" else 0.0, foreach=True)
    if name == "adafactor":
        from transformers import Adafactor

        return Adafactor(parameters, scale_parameter=False, relative_step=False, lr=1e-4)  # type: ignore[no-any-return]
    import bitsandbytes as bnb

    made = {
        "adamw-8bit": bnb.optim.AdamW8bit,
        "paged-adamw": bnb.optim.PagedAdamW32bit,
        "paged-adamw-8bit": bnb.optim.PagedAdamW8bit,
        "lion": bnb.optim.Lion,
        "lion-8bit": bnb.optim.Lion8bit,
    }.get(name)
    if made is None:
        raise UnsupportedError(f"the optimizer {name} is not measured here", hint="plan estimates it")
    return made(parameters, lr=1e-4)  # type: ignore[no-any-return]


def _autocast(spec: RunSpec, workload: TrainingWorkload) -> AbstractContextManager[Any]:
    if not autocasts(workload, spec.parallelism) or spec.uses_deepspeed:
        return nullcontext()
    return torch.autocast(spec.device, dtype=DTYPES[workload.compute_dtype])


def _with_loop(
    spec: RunSpec, workload: TrainingWorkload, model: nn.Module, meter: Meter, energy: EnergyMeter
) -> None:
    vocab_size = _vocab_size(model)
    optimizer = optimizer_of(workload.optimizer, [p for p in model.parameters() if p.requires_grad])
    accelerator = None
    if spec.uses_deepspeed:
        accelerator, model, optimizer = with_deepspeed(spec, model, optimizer)
    scaled = workload.autocast and workload.compute_dtype == "fp16" and spec.device == "cuda"
    scaler = torch.amp.GradScaler(spec.device, enabled=scaled)
    for step, seq_len in enumerate(spec.step_lengths):
        if step == 1:
            energy.start()
        for number in range(workload.gradient_accumulation_steps):
            last = number + 1 == workload.gradient_accumulation_steps
            with micro_batch(accelerator, model, last=last):
                with meter.phase("forward", step):
                    batch = batch_of(spec, workload, seq_len, vocab_size)
                    with _autocast(spec, workload):
                        outputs = model(**batch)
                    loss = outputs.loss / workload.gradient_accumulation_steps
                    if not workload.keep_outputs:
                        del outputs
                with meter.phase("backward", step):
                    if accelerator is not None:
                        accelerator.backward(loss)
                    else:
                        scaler.scale(loss).backward()
            del loss, batch
        with meter.phase("optimizer step", step):
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
    if workload.evaluation is not None:
        evaluate(spec, workload, model, meter)


def _vocab_size(model: nn.Module) -> int:
    """Also of a model that DDP wraps."""
    own: Any = getattr(model, "module", model)
    return int(own.config.vocab_size)


def evaluate(spec: RunSpec, workload: TrainingWorkload, model: nn.Module, meter: Meter) -> None:
    """An evaluation loop as the Trainer's: logits pile up on the device where the workload gathers them."""
    evaluation = workload.evaluation
    assert evaluation is not None
    from dataclasses import replace

    shape = replace(workload, batch_size=evaluation.batch_size)
    vocab_size = _vocab_size(model)
    model.eval()
    gathered: torch.Tensor | None = None
    with meter.phase("eval"), torch.no_grad():
        for number in range(-(-evaluation.num_samples // evaluation.batch_size)):
            batch = batch_of(spec, shape, evaluation.seq_len or workload.seq_len, vocab_size)
            with _autocast(spec, workload):
                logits = model(**batch).logits
            if evaluation.gathers_logits:
                gathered = logits if gathered is None else torch.cat((gathered, logits))
                if evaluation.accumulation_steps and (number + 1) % evaluation.accumulation_steps == 0:
                    gathered = None
    model.train()


def _with_trainer(
    spec: RunSpec, workload: TrainingWorkload, model: nn.Module, meter: Meter, energy: EnergyMeter
) -> None:
    import tempfile

    import transformers

    optim = _TRAINER_OPTIMIZERS.get(workload.optimizer)
    if optim is None:
        raise UnsupportedError(f"Trainer has no optimizer {workload.optimizer}", hint="--runner loop has")
    vocab_size: int = model.config.vocab_size  # type: ignore[union-attr, assignment]

    class Phases(transformers.TrainerCallback):  # type: ignore[misc]
        """Opens and closes the phases that the Trainer announces."""

        def __init__(self) -> None:
            self.step = 0
            self.open = ExitStack()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if self.step == 1:
                energy.start()

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            self.open.enter_context(meter.phase("optimizer step", self.step))

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.open.close()
            self.step += 1

    phases = Phases()

    class MeasuringTrainer(transformers.Trainer):  # type: ignore[misc]
        """The Trainer itself, with its forward and backward calls inside phases."""

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            with meter.phase("forward", phases.step):
                return super().compute_loss(*args, **kwargs)

    lengths = spec.step_lengths
    samples = [
        {name: values[0] for name, values in batch_of(spec, workload, length, vocab_size).items()}
        for length in lengths
        for _ in range(workload.batch_size * workload.gradient_accumulation_steps)
    ]
    half = workload.compute_dtype if workload.autocast else ""
    with tempfile.TemporaryDirectory() as output:
        arguments = transformers.TrainingArguments(
            output_dir=output, max_steps=len(lengths), per_device_train_batch_size=workload.batch_size,
            gradient_accumulation_steps=workload.gradient_accumulation_steps, optim=optim, report_to=[],
            gradient_checkpointing=workload.gradient_checkpointing == "full", bf16=half == "bf16",
            fp16=half == "fp16", use_cpu=spec.device == "cpu", save_strategy="no", logging_strategy="no",
            dataloader_pin_memory=False, disable_tqdm=True, remove_unused_columns=False,
        )  # fmt: skip
        trainer = MeasuringTrainer(model=model, args=arguments, train_dataset=samples, callbacks=[phases])
        trainer._train_batch_size = workload.batch_size
        backward = trainer.accelerator.backward

        def measured_backward(*args: Any, **kwargs: Any) -> None:
            with meter.phase("backward", phases.step):
                backward(*args, **kwargs)

        trainer.accelerator.backward = measured_backward
        trainer.train()


def _facts(
    spec: RunSpec, workload: TrainingWorkload, model: nn.Module, readings: list[PhaseReading],
    joules: float | None, watts: float | None,
) -> RunFacts:  # fmt: skip
    seconds: dict[int, float] = defaultdict(float)
    for reading in readings:
        if reading.phase in ("forward", "backward", "optimizer step"):
            seconds[reading.step] += reading.seconds
    lengths = spec.step_lengths
    later = {step: value for step, value in seconds.items() if step > 0} or dict(seconds)
    per_step = workload.batch_size * workload.gradient_accumulation_steps
    rates = [per_step * lengths[step] / value for step, value in later.items() if value > 0]
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = num_parameters(model)
    rate = statistics.median(rates) if rates else None
    flops_per_token = 6 * total if workload.method == "full" else 4 * total
    counters = torch.cuda.memory_stats() if spec.device == "cuda" else {}
    return RunFacts(
        params_total=total, params_trainable=trainable,
        step_s=statistics.median(later.values()) if later else None, tokens_per_s=rate,
        flops_per_s=None if rate is None else rate * flops_per_token, power_w=watts, energy_j=joules,
        num_alloc_retries=counters.get("num_alloc_retries", 0), num_ooms=counters.get("num_ooms", 0),
    )  # fmt: skip


def num_parameters(model: nn.Module) -> int:
    """Parameters as the model is described: packed 4-bit matrices count every weight."""
    total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        total += state.shape.numel() if state is not None else parameter.numel()
    return total
