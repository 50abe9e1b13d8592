"""The loops of transformers' Trainer and of TRL's trainers, run as they are on batches of a job's shapes.

Their own code decides what is cast, clipped, kept and measured; only the data loader is ours, and marks tell the
tracer where a phase begins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from planner.errors import UnsupportedError
from planner.request import EvaluationSpec, TrainingWorkload
from validate.trace.builder import Built, make_batch
from validate.trace.fake import replaced
from validate.trace.optimizers import as_on_cuda, build_optimizer
from validate.trace.steps import Program, label_optimizer_state
from validate.trace.tracer import Tracer

OPTIM = {
    "adamw": "adamw_torch", "adamw-fused": "adamw_torch_fused", "adamw-8bit": "adamw_bnb_8bit",
    "paged-adamw": "paged_adamw_32bit", "paged-adamw-8bit": "paged_adamw_8bit", "sgd": "sgd",
    "adafactor": "adafactor", "lion": "lion_32bit", "lion-8bit": "lion_8bit", "paged-lion-8bit": "paged_lion_8bit",
}  # fmt: skip
"""Names of ``TrainingArguments.optim``; other optimizers are handed to the trainer as a user would."""


def trainer_program(built: Built, workload: TrainingWorkload, lengths: Sequence[int]) -> Program:
    """``transformers.Trainer(...).train()`` over a step per length, and its evaluation after the last."""
    from transformers import Trainer, TrainingArguments

    trainer = _traced(Trainer)(
        model=built.model, args=TrainingArguments(**_arguments(workload, len(lengths))), train_dataset=[0],
        eval_dataset=[0], compute_metrics=_metrics(workload.evaluation),
    )  # fmt: skip
    return _program(trainer, built, workload, lengths)


def sft_program(built: Built, workload: TrainingWorkload, lengths: Sequence[int]) -> Program:
    """``trl.SFTTrainer(...).train()``: as ``trainer_program``, with TRL's own head, loss and metrics."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    options = _arguments(workload, len(lengths)) | {"dataset_kwargs": {"skip_prepare_dataset": True}}
    rows = Dataset.from_list([{"input_ids": [0], "labels": [0]}])
    trainer = _traced(SFTTrainer)(
        model=built.model, args=SFTConfig(**options), train_dataset=rows, eval_dataset=rows,
        processing_class=_tokenizer(), data_collator=list, compute_metrics=_metrics(workload.evaluation),
    )  # fmt: skip
    return _program(trainer, built, workload, lengths)


def dpo_program(
    built: Built, workload: TrainingWorkload, lengths: Sequence[int], reference: torch.nn.Module | None
) -> Program:
    """``trl.DPOTrainer(...).train()`` on pairs; ``reference`` is the frozen model where no adapter is trained."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = Dataset.from_list([{"prompt_ids": [0], "chosen_ids": [0], "rejected_ids": [0]}])
    with replaced((DPOTrainer, "_prepare_dataset", lambda self, dataset, *_: dataset)):
        trainer = _traced(DPOTrainer)(
            model=built.model, ref_model=reference,
            args=DPOConfig(**_arguments(workload, len(lengths))), train_dataset=rows,
            processing_class=_tokenizer(), data_collator=list,
        )  # fmt: skip
    return _program(trainer, built, workload, lengths)


def _arguments(workload: TrainingWorkload, num_steps: int) -> dict[str, Any]:
    """``TrainingArguments`` of a workload; everything that decides no memory is off."""
    checkpointed = workload.gradient_checkpointing != "none"
    return {
        "output_dir": tempfile.gettempdir(),
        "max_steps": num_steps,
        "per_device_train_batch_size": workload.batch_size,
        "gradient_accumulation_steps": workload.gradient_accumulation_steps,
        "gradient_checkpointing": checkpointed,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if checkpointed else None,
        "bf16": workload.autocast,
        "optim": OPTIM.get(workload.optimizer, "adamw_torch"),
        "use_cpu": True,
        "use_cache": workload.use_cache,
        "remove_unused_columns": False,
        "report_to": "none",
        "logging_strategy": "no",
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        **_evaluation_arguments(workload.evaluation, num_steps),
    }


def _evaluation_arguments(evaluation: EvaluationSpec | None, num_steps: int) -> dict[str, Any]:
    if evaluation is None:
        return {}
    if evaluation.generate_max_new_tokens is not None:
        raise UnsupportedError(
            "an evaluation that generates is not traced", hint="leave it out, or plan estimates it"
        )
    return {
        "eval_strategy": "steps",
        "eval_steps": num_steps,
        "per_device_eval_batch_size": evaluation.batch_size,
        "eval_accumulation_steps": evaluation.accumulation_steps,
        "prediction_loss_only": not evaluation.gathers_logits,
    }


def _metrics(evaluation: EvaluationSpec | None) -> Any:
    """Trainer gathers logits only where something is computed from them."""
    return (lambda _predictions: {}) if evaluation is not None and evaluation.gathers_logits else None


def _traced(kind: type) -> Any:
    """``kind`` with our batches, the optimizer a GPU would get, and marks where phases begin."""

    class Traced(kind):  # type: ignore[misc]
        tracer: Tracer
        workload: TrainingWorkload
        built: Built
        lengths: Sequence[int]

        def get_train_dataloader(self) -> Any:
            repeated = [
                length for length in self.lengths for _ in range(self.workload.gradient_accumulation_steps)
            ]
            return self.accelerator.prepare(self._batches(repeated, self.workload))

        def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
            evaluation = self.workload.evaluation or EvaluationSpec()
            num_batches = -(-evaluation.num_samples // evaluation.batch_size)
            asked = _evaluated(self.workload, evaluation)
            return self.accelerator.prepare(self._batches([asked.seq_len] * num_batches, asked))

        def _batches(self, lengths: Sequence[int], asked: TrainingWorkload) -> Any:
            def collate(rows: Sequence[int]) -> dict[str, torch.Tensor]:
                batch = _batch(kind, self.built, asked, rows[0])
                self.tracer.label(list(batch.values()), "input")
                return batch

            return torch.utils.data.DataLoader(list(lengths), batch_size=1, collate_fn=collate)  # type: ignore[arg-type]

        def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
            if self.workload.optimizer not in OPTIM:
                self.optimizer = build_optimizer(self.model, self.workload.optimizer)
            else:
                super().create_optimizer(*args, **kwargs)
                as_on_cuda(self.optimizer)
            return self.optimizer

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            self.tracer.phase("forward", self.state.global_step)
            loss = super().training_step(*args, **kwargs)
            self.tracer.label([p.grad for p in self.model.parameters() if p.grad is not None], "gradients")
            if self.accelerator.sync_gradients:
                self.tracer.phase("optimizer", self.state.global_step)
            return loss

        def evaluate(self, *args: Any, **kwargs: Any) -> Any:
            label_optimizer_state(self.tracer, self.optimizer)
            self.tracer.phase("eval", self.state.global_step - 1)
            return super().evaluate(*args, **kwargs)

    return Traced


def _evaluated(workload: TrainingWorkload, evaluation: EvaluationSpec) -> TrainingWorkload:
    return replace(workload, batch_size=evaluation.batch_size, seq_len=evaluation.seq_len or workload.seq_len)


def _batch(kind: type, built: Built, workload: TrainingWorkload, length: int) -> dict[str, torch.Tensor]:
    """What the trainer's collator makes: TRL's always bring a mask, and pairs for preferences."""
    batch = make_batch(built, workload, seq_len=length)
    name = kind.__name__
    if name == "SFTTrainer":
        batch.setdefault("attention_mask", torch.ones_like(batch["input_ids"]))
    if name == "DPOTrainer":
        shape = (2 * workload.batch_size, length)
        fields = ("input_ids", "attention_mask", "completion_mask")
        return {field: torch.ones(shape, dtype=torch.long) for field in fields}
    return batch


def _program(trainer: Any, built: Built, workload: TrainingWorkload, lengths: Sequence[int]) -> Program:
    trainer.built, trainer.workload, trainer.lengths = built, workload, lengths
    reference = getattr(trainer, "ref_model", None)

    def run(tracer: Tracer) -> None:
        from transformers import TrainerCallback

        class Marks(TrainerCallback):  # type: ignore[misc]
            def on_optimizer_step(self, *_: Any, optimizer: Any = None, **__: Any) -> None:
                label_optimizer_state(tracer, trainer.optimizer)

            def on_train_end(self, *_: Any, **__: Any) -> None:
                tracer.finish()

        trainer.tracer = tracer
        trainer.add_callback(Marks())
        backward = trainer.accelerator.backward

        def marked(loss: torch.Tensor, **kwargs: Any) -> None:
            tracer.phase("backward", trainer.state.global_step)
            backward(loss, **kwargs)

        with replaced((trainer.accelerator, "backward", marked)), _numbers_on_the_host():
            trainer.train()

    return Program(models=(built.model,) if reference is None else (built.model, reference), run=run)


@contextmanager
def _numbers_on_the_host() -> Iterator[None]:
    """What evaluation turns into numpy leaves the device; its values matter to nobody here."""
    from transformers import trainer_pt_utils

    def numpify(tensors: Any) -> Any:
        import numpy

        if isinstance(tensors, (list, tuple)):
            return type(tensors)(numpify(each) for each in tensors)
        if isinstance(tensors, Mapping):
            return {key: numpify(each) for key, each in tensors.items()}
        return numpy.zeros(1, dtype=numpy.float32)

    with replaced((trainer_pt_utils, "nested_numpify", numpify)):
        yield


def _tokenizer() -> Any:
    """The smallest tokenizer TRL accepts; batches are made without it."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<eos>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")
