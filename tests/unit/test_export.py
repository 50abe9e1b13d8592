"""Exported files, loaded by the libraries that will read them, and read back as the same request."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.errors import RequestError, UnsupportedError
from planner.export import TARGETS, export
from planner.export.chosen import choose, loaded_as
from planner.export.jobs import DSTACK_GPUS, SKYPILOT_GPUS
from planner.export.trl import OPTIMIZERS
from planner.request import (
    AdapterSpec,
    HardwareWish,
    Parallelism,
    PlanRequest,
    ServingWorkload,
    TrainingWorkload,
)
from planner.request_text import parse

H100 = HardwareWish(gpus=("h100-sxm5-80gb",), num_gpus=2)
QLORA = PlanRequest(
    model="meta-llama/Llama-3.1-8B",
    workload=TrainingWorkload(
        method="qlora", weight_dtype="nf4-dq", batch_size=2, gradient_accumulation_steps=4, loss="fused",
        optimizer="paged-adamw-8bit", num_tokens=1_000_000,
        adapter=AdapterSpec(rank=32, target_modules=("q_proj", "v_proj"), dropout=0.1),
    ),
    hardware=H100,
)  # fmt: skip
FULL = replace(QLORA, workload=TrainingWorkload(method="full", gradient_checkpointing="none"))
ZERO2 = replace(FULL, parallelism=Parallelism(dp_shard=2, zero_stage=2, cpu_offload="optimizer"))
SERVE = replace(
    QLORA,
    workload=ServingWorkload(engine="vllm", concurrency=16, kv_cache_dtype="fp8", weight_dtype="awq-int4"),
    parallelism=Parallelism(tp=2),
)
TRAINING_TARGETS = ("accelerate", "deepspeed", "trl", "axolotl", "skypilot", "dstack", "slurm")
SERVING_TARGETS = ("vllm", "sglang", "skypilot", "dstack", "slurm")


def one(request: PlanRequest, target: str, suffix: str) -> str:
    (text,) = [text for name, text in export(request, target).items() if name.endswith(suffix)]
    return text


@pytest.mark.parametrize(
    ("request_", "target"),
    [(request, target) for request in (QLORA, FULL, ZERO2) for target in TRAINING_TARGETS]
    + [(SERVE, target) for target in SERVING_TARGETS],
)
def test_every_file_reads_back_as_the_plan_it_came_from(request_: PlanRequest, target: str) -> None:
    files = export(request_, target)
    assert files
    for text in files.values():
        (again,) = parse(text, "it")
        assert again == choose(request_).request
        assert export(again, target) == files


def test_every_target_is_covered() -> None:
    assert {*TRAINING_TARGETS, *SERVING_TARGETS} == set(TARGETS)


@pytest.mark.parametrize("request_", [QLORA, FULL, ZERO2, replace(FULL, parallelism=Parallelism(dp_replicate=2))])
def test_accelerate_loads_its_configuration(request_: PlanRequest, tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    path = tmp_path / "accelerate.yaml"
    path.write_text(one(request_, "accelerate", "accelerate.yaml"))
    config = load_config_from_file(str(path))
    assert config.num_processes == 2
    assert config.mixed_precision == "bf16"
    kinds = {3: "FSDP", 2: "DEEPSPEED"}
    spread = choose(request_).parallelism
    expected = kinds[spread.zero_stage] if spread.dp_shard > 1 else "MULTI_GPU"
    assert str(config.distributed_type).endswith(expected)


def test_fsdp_settings_are_fields_of_the_plugin() -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin

    known = {field.name for field in fields(FullyShardedDataParallelPlugin)} | {"version", "offload_params"}
    document = yaml.safe_load(one(QLORA, "accelerate", "accelerate.yaml"))
    assert {name.removeprefix("fsdp_") for name in document["fsdp_config"]} <= known | {"version", "fsdp_version"}


@pytest.mark.parametrize("request_", [QLORA, FULL])
def test_trl_parses_its_configuration(
    request_: PlanRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import ModelConfig, ScriptArguments, SFTConfig, TrlParser

    path = tmp_path / "sft.yaml"
    # No GPU here: the trainer refuses bf16 on a CPU, every other field is parsed as written.
    text = one(request_, "trl", "sft.yaml").replace("bf16: true", "bf16: false")
    path.write_text(text)
    monkeypatch.chdir(tmp_path)
    parser = TrlParser((ScriptArguments, SFTConfig, ModelConfig))
    script, training, model = parser.parse_args_and_config(["--config", str(path)])
    workload = request_.workload
    assert isinstance(workload, TrainingWorkload)
    assert script.dataset_name
    assert training.per_device_train_batch_size == workload.batch_size
    assert training.max_length == workload.seq_len
    assert training.gradient_checkpointing == (workload.gradient_checkpointing != "none")
    assert training.optim == OPTIMIZERS[workload.optimizer]
    assert model.use_peft == (workload.method != "full")
    if model.use_peft:
        assert model.load_in_4bit
        assert model.use_bnb_nested_quant
        assert (model.lora_r, model.lora_dropout) == (32, 0.1)
        assert training.max_steps == -(-1_000_000 // (2 * 4 * 2 * 2048))


def test_the_adapter_is_one_that_peft_builds() -> None:
    from peft import LoraConfig

    document = yaml.safe_load(one(QLORA, "trl", "sft.yaml"))
    config = LoraConfig(
        r=document["lora_r"], lora_alpha=document["lora_alpha"], target_modules=document["lora_target_modules"],
        use_dora=document["use_dora"], use_rslora=document["use_rslora"],
    )  # fmt: skip
    assert config.target_modules == {"q_proj", "v_proj"}


def test_optimizers_are_those_of_transformers() -> None:
    from transformers.training_args import OptimizerNames

    assert set(OPTIMIZERS.values()) <= {name.value for name in OptimizerNames}


def test_transformers_reads_the_deepspeed_configuration(tmp_path: Path) -> None:
    from accelerate.utils.deepspeed import HfDeepSpeedConfig

    path = tmp_path / "ds_config.json"
    path.write_text(one(ZERO2, "deepspeed", ".json"))
    config = HfDeepSpeedConfig(str(path))
    assert config.is_zero2()
    assert config.is_offload()
    assert config.get_value("train_batch_size") == 2


ENGINES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "engine_flags.json").read_text())
"""Every flag of dated releases of vLLM and SGLang."""


def serving_command(text: str) -> list[str]:
    return shlex.split(text.split("pipefail", 1)[1].replace("\\\n", " "))


@pytest.mark.parametrize("target", ["vllm", "sglang"])
def test_engines_get_flags_they_have_and_the_plan(target: str, tmp_path: Path) -> None:
    workload = replace(
        SERVE.workload, cuda_graphs=False, num_lora_adapters=2, max_num_batched_tokens=4096,
        gpu_memory_utilization=0.85,
    )  # type: ignore[call-arg]  # fmt: skip
    text = one(
        replace(
            SERVE,
            workload=workload,
            parallelism=Parallelism(tp=2, dp_replicate=2),
            hardware=replace(H100, num_gpus=4),
        ),
        target,
        ".sh",
    )
    command = serving_command(text)
    assert {word for word in command if word.startswith("--")} <= set(ENGINES[target]["flags"])
    assert "16" in command
    path = tmp_path / "serve.sh"
    path.write_text(text)
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


@pytest.mark.parametrize("target", ["vllm", "sglang"])
@pytest.mark.parametrize("weight_dtype", ["bf16", "awq-int4", "gptq-int4", "fp8", "nf4", "mxfp4"])
@pytest.mark.parametrize("cache", ["bf16", "fp8"])
def test_engines_know_the_formats_they_are_given(target: str, weight_dtype: str, cache: str) -> None:
    workload = ServingWorkload(engine=target, weight_dtype=weight_dtype, kv_cache_dtype=cache)
    command = serving_command(one(replace(SERVE, workload=workload), target, ".sh"))
    for flag, choices in (("--quantization", "quantization"), ("--kv-cache-dtype", "kv_cache_dtype")):
        if flag in command:
            assert command[command.index(flag) + 1] in ENGINES[target][choices]
    assert ("--quantization" in command) == (weight_dtype not in ("bf16", "mxfp4"))
    assert ("--kv-cache-dtype" in command) == (cache == "fp8")


def test_vllm_gets_the_plug_in_that_reads_bitsandbytes() -> None:
    workload = ServingWorkload(engine="vllm", weight_dtype="nf4")
    task = job("skypilot", replace(SERVE, workload=workload), ".yaml")
    assert task["setup"].split()[2:] == ["vllm", "vllm-bnb-plugin"]


def job(target: str, request: PlanRequest, suffix: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(one(request, target, suffix))
    return loaded


def test_skypilot_tasks_ask_for_the_machines_of_the_plan() -> None:
    sixteen = replace(FULL, hardware=replace(H100, num_gpus=16, spot=True))
    task = job("skypilot", sixteen, ".yaml")
    assert task["num_nodes"] == 2
    assert task["resources"] == {"accelerators": "H100:8", "use_spot": True}
    assert "--machine_rank" in task["run"]
    assert set(task) <= {"name", "num_nodes", "resources", "setup", "run", "envs", "workdir"}


def test_dstack_tasks_ask_for_the_machines_of_the_plan() -> None:
    task = job("dstack", SERVE, ".yml")
    assert task["type"] == "task"
    assert task["resources"]["gpu"] == {"name": ["H100"], "memory": "80GB", "count": 2}
    assert any("vllm serve" in command for command in task["commands"])


def test_slurm_jobs_are_valid_shell(tmp_path: Path) -> None:
    text = one(replace(FULL, hardware=replace(H100, num_gpus=16)), "slurm", ".sbatch")
    directives = dict(re.findall(r"#SBATCH --([a-z-]+)=(\S+)", text))
    assert (directives["nodes"], directives["gpus-per-node"]) == ("2", "8")
    path = tmp_path / "job.sbatch"
    path.write_text(text)
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


def test_names_of_gpus_are_those_of_the_catalogue() -> None:
    from hardware_db import catalog

    known = {gpu.id for gpu in catalog.all_gpus()}
    assert set(SKYPILOT_GPUS) <= known
    assert set(DSTACK_GPUS) <= known


@pytest.mark.parametrize(
    ("request_", "target"),
    [
        (SERVE, "trl"),
        (QLORA, "vllm"),
        (replace(FULL, parallelism=Parallelism(tp=2)), "trl"),
        (replace(QLORA, workload=replace(QLORA.workload, method="prefix-tuning", weight_dtype="bf16")), "trl"),  # type: ignore[type-var]
    ],
)
def test_what_a_target_cannot_run_is_refused(request_: PlanRequest, target: str) -> None:
    with pytest.raises(UnsupportedError):
        export(request_, target)


def test_several_kinds_of_gpu_are_refused() -> None:
    with pytest.raises(RequestError, match="one kind of GPU"):
        export(replace(QLORA, hardware=HardwareWish(gpus=("h100", "a100"))), "trl")


def test_without_a_gpu_the_cheapest_that_holds_the_plan_is_taken() -> None:
    chosen = choose(replace(QLORA, hardware=HardwareWish()))
    assert len(chosen.request.hardware.gpus) == 1
    assert chosen.request.hardware.num_gpus == chosen.num_gpus


@pytest.mark.parametrize(
    ("asked", "loaded"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("deepseek-ai/deepseek-r1-distill-llama-8b", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
        ("deepseek-r1", "deepseek-ai/DeepSeek-R1"),
        ("llama-8b", "meta-llama/Llama-3.1-8B"),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "Qwen/Qwen2.5-7B-Instruct-AWQ"),
    ],
)
def test_the_weights_asked_for_are_loaded_not_those_of_the_model_with_their_shape(asked: str, loaded: str) -> None:
    request = PlanRequest(model=asked, workload=ServingWorkload(engine="vllm"), hardware=H100)
    (script,) = (text for name, text in export(request, "vllm").items() if name.endswith(".sh"))
    assert f"vllm serve {loaded} " in script


def test_a_directory_is_loaded_from_where_it_lies(tmp_path: Path) -> None:
    assert loaded_as(str(tmp_path), "shape") == str(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert loaded_as(str(tmp_path / "config.json"), "shape") == str(tmp_path)
