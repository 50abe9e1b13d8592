"""Fit the efficiency constants of the speed model to published speeds and write ``efficiency.json``.

    python scripts/fit_efficiency.py CASES.jsonl [--out FILE] [--evaluate]

Constants move from their priors (``efficiency_priors``) as far as the cases pull them: robust least squares of
log(predicted / published), each source weighted alike, plus the squared distance from the prior in its
own standard deviations. ``--evaluate`` fits once more for every source left out and scores the left-out source;
these errors, never those of the fit itself, give the low and high ends the product shows.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "scripts"))

from efficiency_priors import PRIORS  # noqa: E402

OUT = ROOT / "planner" / "throughput" / "data" / "efficiency.json"
_HUBER = 0.25
_CASES_PER_SOURCE = 24


def priors_document() -> dict[str, Any]:
    constants = {
        name: {
            "value": value,
            "prior": value,
            "prior_log_sd": sd,
            "unit": unit,
            "meaning": meaning,
            "source": source,
        }
        for name, (value, sd, unit, meaning, source) in PRIORS.items()
    }
    everything = {group: {"low": 0.75, "high": 1.35} for group in ("training", "decode", "prefill", "batch")}
    return {"constants": constants, "attainable": {}, "spread": everything, "evaluation": {}}


def source_of(case: dict[str, Any]) -> str:
    return str(case["source"]).split("@")[0].split("/blob/")[0].split("/LLaMA")[0]


def repository(case: dict[str, Any]) -> str:
    text = source_of(case).replace("https://github.com/", "")
    return "/".join(text.split("/")[:2])


def attainable(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Measured fractions per GPU, generation and kind, each with its sources (median over readings)."""
    from planner.throughput.device import generation, peak_flops_per_s
    from validate.published.speed_expressed import gpu_of

    readings: dict[str, dict[str, list[tuple[float, str]]]] = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )
    for case in cases:
        request = case["request"]
        if case["family"] != "attainable":
            continue
        gpu = gpu_of(request["gpu"])
        dtype = request.get("compute_dtype")
        if request["kernel"] == "matmul" and "W)" not in request["gpu"]:
            if dtype == "bf16" and not gpu.supports_bf16:
                continue
            kind = "matmul-8" if dtype in ("fp8", "int8", "fp4") else "matmul-16"
            peak = peak_flops_per_s(gpu, dtype)
        elif request["kernel"].startswith("stream"):
            kind, peak = "stream", float(gpu.bandwidth_bytes_per_s or 0)
        else:
            continue
        if not peak:
            continue
        entry = (case["measured"]["value"] / peak, str(case["source"]))
        group = generation(gpu)
        for key in (gpu.id, group, group.split("-")[0], "all"):
            readings[kind][key].append(entry)
    return {
        kind: {
            key: {
                "fraction": round(chosen(kind, [value for value, _ in found]), 4),
                "readings": len(found),
                "sources": sorted({source for _, source in found})[:4],
            }
            for key, found in sorted(table.items())
        }
        for kind, table in readings.items()
    }


def chosen(kind: str, fractions: list[float]) -> float:
    """Median of matmul readings; of streaming kernels the best, since a plain kernel only bounds the rate."""
    return max(fractions) if kind == "stream" else statistics.median(fractions)


class Fit:
    """Residuals of a set of cases as a function of the free constants' logarithms."""

    def __init__(self, cases: list[dict[str, Any]], names: list[str]) -> None:
        self.names = names
        self.cases = cases
        counts = collections.Counter((repository(case), case["family"]) for case in cases)
        self.weights = numpy.array(
            [math.sqrt(min(1.0, _CASES_PER_SOURCE / counts[repository(case), case["family"]])) for case in cases]
        )
        self.priors = numpy.array([math.log(PRIORS[name][0]) for name in names])
        self.deviations = numpy.array([PRIORS[name][1] for name in names])

    def errors(self, logs: numpy.ndarray) -> numpy.ndarray:
        from planner.throughput.constants import overridden
        from validate.published.speed_predicted import predict

        values = {name: math.exp(log) for name, log in zip(self.names, logs, strict=True)}
        with overridden(values):
            return numpy.array(
                [math.log(predict(case).expected / case["measured"]["value"]) for case in self.cases]
            )

    def residuals(self, logs: numpy.ndarray) -> numpy.ndarray:
        raw = self.errors(logs)
        huber = numpy.sign(raw) * numpy.sqrt(
            numpy.where(numpy.abs(raw) < _HUBER, raw**2, 2 * _HUBER * numpy.abs(raw) - _HUBER**2)
        )
        case_noise = 0.15
        return numpy.concatenate([huber * self.weights / case_noise, (logs - self.priors) / self.deviations])

    def jacobian(self, logs: numpy.ndarray, base: numpy.ndarray) -> numpy.ndarray:
        """Derivatives of the residuals by forward differences."""
        columns = []
        for column in range(len(logs)):
            moved = logs.copy()
            moved[column] += 0.02
            columns.append((self.residuals(moved) - base) / 0.02)
        return numpy.stack(columns, axis=1)

    def solve(self, rounds: int = 5) -> numpy.ndarray:
        """Gauss-Newton, damped until the loss falls."""
        logs = self.priors.copy()
        damping = 1.0
        base = self.residuals(logs)
        for _ in range(rounds):
            jacobian = self.jacobian(logs, base)
            before = base @ base
            while damping < 1e6:
                trial_logs = logs + newton_step(jacobian, base, damping)
                trial = self.residuals(trial_logs)
                if trial @ trial < before:
                    logs, base, damping = trial_logs, trial, damping / 5
                    break
                damping *= 5
            if before - base @ base < 1e-3 * before:
                break
        return logs


def newton_step(jacobian: numpy.ndarray, residuals: numpy.ndarray, damping: float) -> numpy.ndarray:
    """The damped step, at most half an e-fold per constant."""
    normal = jacobian.T @ jacobian + damping * numpy.eye(jacobian.shape[1])
    return numpy.clip(numpy.linalg.solve(normal, -jacobian.T @ residuals), -0.5, 0.5)


def capped(names: list[str], logs: numpy.ndarray) -> dict[str, float]:
    """Fractions stay physical."""
    values = {}
    for name, log in zip(names, logs, strict=True):
        value = math.exp(log)
        if PRIORS[name][2] == "fraction":
            value = min(value, 1.3 if name.startswith(("decode.format", "prefill", "decode.gpt-fast")) else 1.0)
        values[name] = value
    return values


def summary(errors: list[float]) -> dict[str, float]:
    sizes = sorted(abs(math.expm1(error)) for error in errors)
    return {
        "cases": len(sizes),
        "median_error": round(statistics.median(sizes), 4),
        "p90_error": round(sizes[min(len(sizes) - 1, math.ceil(0.9 * len(sizes)) - 1)], 4),
    }


def usable(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from planner.errors import PlannerError
    from validate.published.speed_predicted import predict

    kept, refused = [], collections.Counter()
    for case in cases:
        if case["family"] == "attainable":
            continue
        try:
            predict(case)
        except (PlannerError, LookupError) as error:
            refused[str(error)[:90]] += 1
        else:
            kept.append(case)
    for reason, count in refused.most_common(12):
        print(f"  refused {count:4d}: {reason}", file=sys.stderr)
    return kept


GROUPS = {"serve-decode-b1": "decode", "prefill": "prefill", "serve-batch": "batch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--priors-only", action="store_true")
    arguments = parser.parse_args()
    cases = [json.loads(line) for path in arguments.cases for line in path.read_text("utf-8").splitlines() if line]
    result = priors_document()
    use(result)
    result["attainable"] = attainable(cases)
    use(result)
    if arguments.priors_only:
        write(arguments.out, result)
        return
    names = [name for name, row in PRIORS.items() if row[1] > 0]
    kept = usable(cases)
    strong = [case for case in kept if not case.get("weak")]
    fit = Fit(strong, names)
    fitted = fit.solve()
    values = capped(names, fitted)
    for name, value in values.items():
        result["constants"][name]["value"] = float(f"{value:.4g}")
    if arguments.evaluate:
        result["evaluation"], result["spread"] = evaluate(strong, names, fitted)
    write(arguments.out, result)


def evaluate(
    strong: list[dict[str, Any]], names: list[str], fitted: numpy.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Errors of every repository under constants fitted without it, and the spread they imply per group.

    The constants without a repository are found from the common fit by chord steps: its derivatives are kept, the
    residuals of the remaining cases are computed anew after every step.
    """
    fit = Fit(strong, names)
    derivatives = fit.jacobian(fitted, fit.residuals(fitted))
    held_out: dict[str, list[float]] = collections.defaultdict(list)
    table = {}
    for left_out in sorted({repository(case) for case in strong}):
        inside = numpy.array([repository(case) == left_out for case in strong])
        kept = numpy.concatenate([~inside, numpy.ones(len(names), dtype=bool)])
        logs = fitted.copy()
        for _ in range(4):
            logs = logs + newton_step(derivatives[kept], fit.residuals(logs)[kept], 0.0)
        logs = numpy.log(list(capped(names, logs).values()))
        errors = fit.errors(logs)[inside]
        table[left_out] = summary(list(errors))
        for case, error in zip(numpy.array(strong, dtype=object)[inside], errors, strict=True):
            longer = -error if case["measured"]["quantity"] == "step_time_s" else error
            held_out[GROUPS.get(case["family"], "training")].append(float(longer))
        print(f"  left out {left_out}: {table[left_out]}", file=sys.stderr)
    spread = {}
    for group, errors in held_out.items():
        ordered = sorted(errors)
        low, high = (ordered[int(q * (len(ordered) - 1))] for q in (0.1, 0.9))
        spread[group] = {"low": round(min(math.exp(low), 0.97), 3), "high": round(max(math.exp(high), 1.03), 3)}
    return {"left_out": table, "groups": {g: summary(e) for g, e in held_out.items()}}, spread


def write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def use(result: dict[str, Any]) -> None:
    """Let the model read this document instead of the shipped one."""
    from planner.throughput import constants

    path = Path(tempfile.mkdtemp()) / "efficiency.json"
    write(path, result)
    constants._PATH = path
    constants.document.cache_clear()
    constants._values.cache_clear()


if __name__ == "__main__":
    main()
