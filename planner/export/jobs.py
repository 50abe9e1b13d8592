"""Jobs for SkyPilot, dstack and Slurm that run a plan with TRL or vLLM.

https://docs.skypilot.co/en/latest/reference/yaml-spec.html, https://dstack.ai/docs/reference/dstack.yml/task/,
https://slurm.schedmd.com/sbatch.html.
"""

from __future__ import annotations

from typing import Any

from planner.errors import UnsupportedError
from planner.export import accelerate, engines, trl
from planner.export.chosen import Chosen
from planner.export.yaml_text import dump
from planner.request import TrainingWorkload
from planner.request_text import comment

SKYPILOT_FILE = "task.sky.yaml"
DSTACK_FILE = "task.dstack.yml"
SLURM_FILE = "job.sbatch"
SKYPILOT_GPUS = {
    "h100-sxm5-80gb": "H100", "h100-pcie-80gb": "H100", "h200-sxm": "H200", "a100-sxm4-80gb": "A100-80GB",
    "a100-pcie-80gb": "A100-80GB", "a100-sxm4-40gb": "A100", "a100-pcie-40gb": "A100", "b200-sxm": "B200",
    "gb200": "GB200", "l4": "L4", "l40": "L40", "l40s": "L40S", "t4": "T4", "a10": "A10", "a10g": "A10G",
    "v100-sxm2-16gb": "V100", "v100-sxm2-32gb": "V100-32GB", "rtx-4090": "RTX4090", "rtx-3090": "RTX3090",
    "rtx-5090": "RTX5090", "rtx-a6000": "RTXA6000", "rtx-6000-ada": "RTX6000-Ada", "a40": "A40",
    "mi300x": "MI300X",
}  # fmt: skip
"""Names of ``sky show-gpus``."""
DSTACK_GPUS = {
    "h100-sxm5-80gb": "H100", "h100-pcie-80gb": "H100", "h200-sxm": "H200", "a100-sxm4-80gb": "A100",
    "a100-pcie-80gb": "A100", "a100-sxm4-40gb": "A100", "a100-pcie-40gb": "A100", "b200-sxm": "B200", "l4": "L4",
    "l40": "L40", "l40s": "L40S", "t4": "T4", "a10": "A10", "a10g": "A10G", "v100-sxm2-16gb": "V100",
    "v100-sxm2-32gb": "V100", "rtx-4090": "RTX4090", "rtx-3090": "RTX3090", "rtx-5090": "RTX5090",
    "rtx-a6000": "A6000", "rtx-6000-ada": "RTX6000Ada", "a40": "A40", "mi300x": "MI300X",
}  # fmt: skip
"""Names of dstack's offers, which come from gpuhunt."""


def _steps(chosen: Chosen) -> tuple[list[str], dict[str, str], list[str]]:
    """Packages to install, files to bring along, and the command of one machine (``$RANK``, ``$HEAD`` set)."""
    if not isinstance(chosen.request.workload, TrainingWorkload):
        if chosen.num_machines > 1 and chosen.parallelism.dp_replicate == 1:
            raise UnsupportedError(
                "one engine over several machines needs a Ray cluster, which is not written",
                hint="choose a plan of at most eight GPUs, or several replicas",
            )
        if chosen.serving.engine == "sglang":
            return ["sglang[all]"], {}, engines.sglang_command(chosen)
        return engines.vllm_packages(chosen), {}, engines.vllm_command(chosen)
    files = trl.files(chosen)
    launch = ["accelerate", "launch", "--config_file", accelerate.FILE]
    if chosen.num_machines > 1:
        launch += ["--machine_rank", "$RANK", "--main_process_ip", "$HEAD", "--main_process_port", "29500"]
    packages = ["trl", "peft", "bitsandbytes", "accelerate", "liger-kernel"]
    if chosen.parallelism.dp_shard > 1 and chosen.parallelism.zero_stage < 3:
        packages.append("deepspeed")
    return packages, files, [*launch, "-m", "trl.scripts.sft", "--config", trl.FILE]


def _bring(files: dict[str, str]) -> list[str]:
    """Shell that writes files on a machine that has only the job."""
    return [f"cat > {name} <<'PLAN_FILE'\n{text}PLAN_FILE" for name, text in files.items()]


def skypilot_files(chosen: Chosen) -> dict[str, str]:
    """``task.sky.yaml``: resources, machines, set-up and run."""
    packages, files, command = _steps(chosen)
    name = _named(chosen, SKYPILOT_GPUS, "SkyPilot")
    wish = chosen.request.hardware
    resources: dict[str, Any] = {"accelerators": f"{name}:{chosen.gpus_per_machine}", "use_spot": wish.spot}
    if len(wish.regions) == 1:
        resources["region"] = wish.regions[0]
    rank = ['RANK="$SKYPILOT_NODE_RANK"', 'HEAD="$(echo "$SKYPILOT_NODE_IPS" | head -n1)"']
    document = {
        "name": "gpu-planner",
        "num_nodes": chosen.num_machines,
        "resources": resources,
        "setup": "\n".join([f"pip install {' '.join(packages)}", ""]),
        "run": "\n".join([*(rank if chosen.num_machines > 1 else []), *_bring(files), _shell(command), ""]),
    }
    return {SKYPILOT_FILE: f"{comment(chosen.request)}\n{dump(document)}\n"}


def dstack_files(chosen: Chosen) -> dict[str, str]:
    """``task.dstack.yml``."""
    packages, files, command = _steps(chosen)
    name = _named(chosen, DSTACK_GPUS, "dstack")
    memory = f"{round(chosen.gpu.memory_gb)}GB"
    rank = ['RANK="$DSTACK_NODE_RANK"; HEAD="$DSTACK_MASTER_NODE_IP"'] if chosen.num_machines > 1 else []
    document: dict[str, Any] = {
        "type": "task",
        "name": "gpu-planner",
        "python": "3.11",
        "nodes": chosen.num_machines,
        "commands": [f"pip install {' '.join(packages)}", *rank, *_bring(files), _shell(command)],
        "resources": {"gpu": {"name": [name], "memory": memory, "count": chosen.gpus_per_machine}},
        "spot_policy": "auto" if chosen.request.hardware.spot else "on-demand",
    }
    return {DSTACK_FILE: f"{comment(chosen.request)}\n{dump(document)}\n"}


def slurm_files(chosen: Chosen) -> dict[str, str]:
    """``job.sbatch`` and the files its command reads."""
    _, files, command = _steps(chosen)
    head = [
        "#!/usr/bin/env bash",
        "#SBATCH --job-name=gpu-planner",
        f"#SBATCH --nodes={chosen.num_machines}",
        "#SBATCH --ntasks-per-node=1",
        f"#SBATCH --gpus-per-node={chosen.gpus_per_machine}",
        "#SBATCH --output=%x-%j.log",
        comment(chosen.request),
        "set -euo pipefail",
        'HEAD="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n1)"',
        "export HEAD",
    ]
    launch = f"srun bash -c 'export RANK=\"$SLURM_PROCID\"; {_shell(command)}'"
    return {SLURM_FILE: "\n".join([*head, launch]) + "\n", **files}


def _shell(command: list[str]) -> str:
    quoted = [word if word.startswith("$") else engines.wrapped([word]).strip() for word in command]
    return " ".join(f'"{word}"' if word.startswith("$") else word for word in quoted)


def _named(chosen: Chosen, names: dict[str, str], tool: str) -> str:
    if chosen.gpu.id not in names:
        raise UnsupportedError(f"{tool}'s name for {chosen.gpu.name} is not known", hint="export to slurm instead")
    return names[chosen.gpu.id]
