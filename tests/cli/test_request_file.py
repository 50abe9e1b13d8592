from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from planner.errors import RequestError
from planner.request import (
    EvaluationSpec,
    HardwareWish,
    Parallelism,
    PlanRequest,
    ServingWorkload,
    TrainingWorkload,
)
from tui.request_file import dump, load, parse

TRAIN = PlanRequest(
    model="llama-70b",
    workload=replace(TrainingWorkload(), method="qlora", weight_dtype="nf4-dq", evaluation=EvaluationSpec()),
    parallelism=Parallelism(dp_shard=2),
    hardware=HardwareWish(gpus=("A100 80GB",), max_usd_per_hour=Decimal("2.50")),
    calibrated=False,
)
SERVE = PlanRequest(model="params:7B", workload=ServingWorkload(gpu_memory_utilization=0.9))


def test_a_file_reads_back_to_equal_requests(tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_text(dump((TRAIN, SERVE)))
    assert load(path) == (TRAIN, SERVE)


def edited(**changes: Any) -> str:
    document = json.loads(dump((TRAIN,)))
    row = document["requests"][0]
    for path, value in changes.items():
        *holders, name = path.split("__")
        target = row
        for holder in holders:
            target = target[holder]
        target[name] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no requests"),
        ('{"schema_version": 1, "requests": []}', "no requests"),
        ('{"schema_version": 99, "requests": [{}]}', "version"),
        (edited(task="dance"), "task"),
        (edited(workload__batch_sise=4), "batch_sise"),
        (edited(workload__adapter__ranks=4), "ranks"),
        (edited(workload__batch_size="many"), "batch_size"),
        (edited(workload__batch_size=-1), "batch size"),
        (edited(workload__adapter__rank=0), "rank"),
        (edited(workload__weight_dtype="nf4", workload__method="full"), "full"),
        (edited(hardware__max_usd_per_hour="NaN"), "max"),
        (edited(workload=None), "workload"),
    ],
)
def test_a_broken_file_is_refused_by_the_field_that_is_wrong(text: str, word: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(text)
    assert word in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="absent"):
        load(tmp_path / "absent.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="not text"):
        load(tmp_path / "binary")
