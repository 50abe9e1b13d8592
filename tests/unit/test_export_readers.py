"""Exported files in the hands of what runs them: DeepSpeed, Axolotl, SkyPilot, dstack, a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner.export import export
from planner.request import HardwareWish, Parallelism, PlanRequest, ServingWorkload, TrainingWorkload

HANDOVER = Path(__file__).parents[2] / ".handover"
"""Where ``tests/handover/install`` puts the programs."""

TWO = HardwareWish(gpus=("h100-sxm5-80gb",), num_gpus=2)
QLORA = PlanRequest(
    model="meta-llama/Llama-3.1-8B",
    workload=TrainingWorkload(
        method="qlora", weight_dtype="nf4-dq", batch_size=2, gradient_accumulation_steps=4, loss="fused",
        optimizer="paged-adamw-8bit",
    ),
    hardware=TWO,
)  # fmt: skip
FULL = replace(QLORA, workload=TrainingWorkload(method="full", attention="flash-attention-2"))
EAGER = replace(QLORA, workload=TrainingWorkload(method="rslora", attention="eager", compute_dtype="fp16"))
ZERO2 = replace(FULL, parallelism=Parallelism(dp_shard=2, zero_stage=2, cpu_offload="optimizer"))
ZERO3 = replace(FULL, parallelism=Parallelism(dp_shard=2, cpu_offload="parameters"))
NVME = replace(FULL, parallelism=Parallelism(dp_shard=2, cpu_offload="nvme"))
SIXTEEN = replace(FULL, hardware=replace(TWO, num_gpus=16, spot=True))
SERVE = replace(QLORA, workload=ServingWorkload(engine="vllm", concurrency=16), parallelism=Parallelism(tp=2))
TRAINED = {
    "qlora": QLORA,
    "full": FULL,
    "eager": EAGER,
    "zero2": ZERO2,
    "zero3": ZERO3,
    "nvme": NVME,
    "sixteen": SIXTEEN,
}
EVERY = TRAINED | {"serve": SERVE}


def read(program: str, requests: dict[str, PlanRequest], target: str, name: str, folder: Path) -> list[Any]:
    """What ``program`` answers of the file ``name`` of each export, in a process of its own.

    SkyPilot and dstack run in their environment; Axolotl and DeepSpeed beside this one's torch.
    """
    trainer = target in ("axolotl", "deepspeed")
    where = HANDOVER / ("trainers" if trainer else "clouds")
    if not where.exists():
        pytest.skip(f"{where} does not exist: run tests/handover/install")
    paths = []
    for label, request in requests.items():
        paths.append(folder / label)
        paths[-1].write_text(export(request, target)[name])
    python = sys.executable if trainer else str(where / "bin" / "python")
    own = {"PYTHONPATH": str(where)} if trainer else {}
    done = subprocess.run(
        [python, "-c", program, *map(str, paths)],
        env=os.environ | own | {"HOME": str(folder)}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


DEEPSPEED = """
import json, sys
from deepspeed.runtime.config import DeepSpeedConfig
answers = []
for path in sys.argv[1:]:
    with open(path) as file:
        values = json.load(file)
    whole = values.pop("train_batch_size")
    read = DeepSpeedConfig(values)
    zero = read.zero_config
    where = [str(getattr(offload, "device", None)) for offload in (zero.offload_optimizer, zero.offload_param)]
    answers.append([int(zero.stage), whole / read.train_batch_size, read.bfloat16_config.enabled, *where])
print(json.dumps(answers))
"""
"""One process reads it, so that DeepSpeed derives the batch of one of the two ranks."""


def test_deepspeed_builds_its_configuration(tmp_path: Path) -> None:
    expected = {
        "full": [3, 2.0, True, "None", "None"],
        "zero2": [2, 2.0, True, "cpu", "None"],
        "zero3": [3, 2.0, True, "cpu", "cpu"],
        "nvme": [3, 2.0, True, "nvme", "nvme"],
        "qlora": [3, 2.0, True, "None", "None"],
        "eager": [3, 2.0, False, "None", "None"],
    }
    requests = {name: TRAINED[name] for name in expected}
    assert read(DEEPSPEED, requests, "deepspeed", "ds_config.json", tmp_path) == list(expected.values())


AXOLOTL = """
import json, sys
import yaml
from axolotl.utils.schemas.config import AxolotlConfigWCapabilities
card = {"bf16": True, "fp8": True, "tf32": True, "n_gpu": 2, "n_node": 1, "compute_capability": "sm_90"}
kept = ("micro_batch_size", "sequence_len", "adapter", "lora_r", "load_in_4bit", "attn_implementation")
answers = []
for path in sys.argv[1:]:
    with open(path) as file:
        values = yaml.safe_load(file)
    read = AxolotlConfigWCapabilities(**values, capabilities=card, env_capabilities={"torch_version": "2.11.0"})
    unknown = sorted(set(values) - set(AxolotlConfigWCapabilities.model_fields))
    answers.append({"unknown": unknown} | {name: getattr(read, name) for name in kept})
print(json.dumps(answers))
"""
"""Axolotl's own models with the rules between fields; the card is described, so none is looked for."""


def test_axolotl_accepts_its_configuration(tmp_path: Path) -> None:
    answers = read(AXOLOTL, TRAINED, "axolotl", "axolotl.yaml", tmp_path)
    for request, found in zip(TRAINED.values(), answers, strict=True):
        workload = request.workload
        assert isinstance(workload, TrainingWorkload)
        # Plugins bring their own fields, known only once the plugin is installed.
        assert [field for field in found["unknown"] if not field.startswith("liger_")] == []
        assert (found["micro_batch_size"], found["sequence_len"]) == (workload.batch_size, workload.seq_len)
        assert bool(found["load_in_4bit"]) == (workload.method == "qlora")
        assert found["adapter"] == {"full": None, "qlora": "qlora", "rslora": "lora"}[workload.method]
        assert found["lora_r"] == (None if workload.method == "full" else workload.adapter.rank)
        assert found["attn_implementation"] == workload.attention.replace("-", "_")


SKYPILOT = """
import json, sys
import sky
answers = []
for path in sys.argv[1:]:
    task = sky.Task.from_yaml(path)
    (wanted,) = task.resources
    answers.append([task.num_nodes, dict(wanted.accelerators), wanted.use_spot])
print(json.dumps(answers))
"""
DSTACK = """
import json, sys
import yaml
from dstack._internal.core.models.configurations import TaskConfiguration, parse_run_configuration
answers = []
for path in sys.argv[1:]:
    with open(path) as file:
        task = parse_run_configuration(yaml.safe_load(file))
    assert isinstance(task, TaskConfiguration)
    gpu = task.resources.gpu
    answers.append([task.nodes, gpu.name, gpu.count.min, gpu.memory.min, task.spot_policy.value])
print(json.dumps(answers))
"""


def test_skypilot_loads_its_task(tmp_path: Path) -> None:
    expected = [[2, {"H100": 8}, True] if name == "sixteen" else [1, {"H100": 2}, False] for name in EVERY]
    assert read(SKYPILOT, EVERY, "skypilot", "task.sky.yaml", tmp_path) == expected


def test_dstack_parses_its_task(tmp_path: Path) -> None:
    expected = [
        [2, ["H100"], 8, 80.0, "auto"] if name == "sixteen" else [1, ["H100"], 2, 80.0, "on-demand"]
        for name in EVERY
    ]
    assert read(DSTACK, EVERY, "dstack", "task.dstack.yml", tmp_path) == expected


@pytest.mark.parametrize("name", EVERY)
def test_slurm_jobs_are_valid_shell(name: str, tmp_path: Path) -> None:
    path = tmp_path / "job.sbatch"
    path.write_text(export(EVERY[name], "slurm")["job.sbatch"])
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
