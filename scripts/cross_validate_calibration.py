"""Show what calibration is worth on runs it has not seen: python scripts/cross_validate_calibration.py [FILES…]

Reads recorded measurements (by default validate/data/*.jsonl) and writes docs/accuracy/measured.md: every run with
its predictions, and the error of each run predicted from the runs of other shapes and of other models. The same is
done with the published cases of benchmarks/cases/memory.jsonl, publication by publication.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from planner.quantity import Tier
from planner.units import format_bytes
from validate.calibrate import cross_validate
from validate.defaults import Residual, left_out_models, residuals_of
from validate.measurement import Measurement, from_json, outermost
from validate.published.bench import predict
from validate.published.cases import read_cases
from validate.samples import Sample, gpu_of, sample_of
from validate.store import peaks

DATA = Path("validate/data")
CASES = Path("benchmarks/cases/memory.jsonl")
SECTION = Path("docs/accuracy/measured.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--section", type=Path, default=SECTION)
    arguments = parser.parse_args()
    files = arguments.files or sorted(DATA.glob("*.jsonl"))
    by_file = {path.name: [from_json(line) for line in path.read_text().splitlines()] for path in files}
    arguments.section.parent.mkdir(parents=True, exist_ok=True)
    arguments.section.write_text(_section(by_file), encoding="utf-8")


def _section(by_file: dict[str, list[Measurement]]) -> str:
    lines = [
        "## Own measurements",
        "",
        "Recorded by `plan validate`, kept in `validate/data/` with their environment and command, and computed "
        "by `scripts/cross_validate_calibration.py`. On a CPU the counter is the bytes of real tensors, in the "
        "blocks PyTorch's CUDA allocator would use; no GPU is involved. The trace runs the CPU's kernels here, "
        "the analytic tier those of CUDA: attention with dropout or a position bias (BERT, T5) and dropout itself "
        "take more on a CPU.",
    ]
    for name, measurements in by_file.items():
        lines += ["", f"### {name}", "", *_environment(measurements[0]), "", *_runs(measurements), ""]
        lines += _cross_validation(measurements)
    return "\n".join([*lines, *_published(), ""])


def _published() -> list[str]:
    cases = read_cases(CASES)
    residuals = list(residuals_of(cases, (predict(case, Tier.ANALYTIC) for case in cases)))
    by_source: dict[tuple[str, str], list[tuple[Residual, float]]] = {}
    for residual, left in left_out_models(residuals):
        by_source.setdefault((residual.source, residual.family), []).append((residual, left))
    lines = [
        "",
        "### Published cases",
        "",
        "What runs of other models in the same publication (one script, one card) are worth: every run is "
        "predicted by the analytic tier with one factor learnt from the publication's runs of all other models.",
        "",
        "| publication | family | runs | models | median error before | after |",
        "|---|---|---:|---:|---:|---:|",
    ]
    everything: list[tuple[Residual, float]] = []
    for (source, family), rows in sorted(by_source.items()):
        models = len({residual.model for residual, _ in rows})
        if models > 1:
            everything += rows
            lines.append(f"| {source} | {family} | {len(rows)} | {models} | {_before_and_after(rows)} |")
    for task in ("train", "serve"):
        rows = [row for row in everything if row[0].task == task]
        lines.append(f"| all | {task} | {len(rows)} | | {_before_and_after(rows)} |")
    return lines


def _before_and_after(rows: Sequence[tuple[Residual, float]]) -> str:
    before = statistics.median(abs(math.expm1(-residual.log_ratio)) for residual, _ in rows)
    after = statistics.median(abs(math.expm1(-left)) for _, left in rows)
    return f"{before:.1%} | {after:.1%}"


def _environment(first: Measurement) -> list[str]:
    environment = first.environment
    libraries = ", ".join(f"{name} {version}" for name, version in environment.libraries)
    driver = "" if environment.driver is None else f", driver {environment.driver}, CUDA {environment.cuda}"
    return [f"{environment.gpu_name}{driver}; {libraries}; {first.made_at[:10]}; `{first.command}`"]


def _runs(measurements: Sequence[Measurement]) -> list[str]:
    lines = [
        "| model | run | counter | measured | trace | error | analytic now | error |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for measurement in measurements:
        found = peaks(measurement)
        sample = sample_of(measurement, gpu_of(measurement.environment.gpu_id))
        if sample is None or not found:
            continue
        counter = outermost(found)
        traced = measurement.predicted(Tier.TRACE, counter)
        analytic = round(sample.expected({}, counter))
        shown = ["-", "-"] if traced is None else _against(traced.expected_bytes, found[counter])
        lines.append(
            f"| {measurement.spec.model.rpartition('/')[2]} | {_what(measurement)} | {counter} | "
            f"{format_bytes(found[counter])} | {' | '.join((*shown, *_against(analytic, found[counter])))} |"
        )
    return lines


def _against(predicted: int, measured: int) -> tuple[str, str]:
    return format_bytes(predicted), f"{predicted / measured - 1:+.1%}"


def _what(measurement: Measurement) -> str:
    workload = measurement.spec.workload
    if measurement.spec.task == "serve":
        return f"generate {workload.concurrency}×{workload.prompt_tokens}+{workload.output_tokens}"  # type: ignore[union-attr]
    said = [f"{workload.method} {workload.batch_size}×{workload.seq_len}"]  # type: ignore[union-attr]
    for name, default in (
        ("gradient_checkpointing", "full"), ("weight_dtype", "bf16"), ("attention", "sdpa"),
        ("optimizer", "adamw"), ("autocast", False), ("padding_mask", False), ("keep_outputs", False),
    ):  # fmt: skip
        value = getattr(workload, name)
        if value != default:
            said.append(name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {value}")
    return ", ".join(said)


def _cross_validation(measurements: Sequence[Measurement]) -> list[str]:
    lines = [
        "What a measurement of one shape is worth for others: each run is predicted by the analytic tier with "
        "what all runs outside its own group taught.",
        "",
        "| left out together | runs | median error before | after | mean before | after |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    groups: tuple[tuple[str, Callable[[Sample], str]], ...] = (
        ("runs of the same shape", lambda sample: sample.shape),
        ("runs of the same model", lambda sample: sample.model),
    )
    for title, group in groups:
        rows = cross_validate(measurements, group)
        before, after = [abs(error) for _, error, _ in rows], [abs(error) for _, _, error in rows]
        cells = (
            f"{summary(errors):.2%}"
            for summary in (statistics.median, statistics.mean)
            for errors in (before, after)
        )
        lines.append(f"| {title} | {len(rows)} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
