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
from planner.request_text import comment, document, parse
from tui.files import read_requests

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
    path.write_text(document((TRAIN, SERVE)))
    assert read_requests(path) == (TRAIN, SERVE)


def edited(**changes: Any) -> str:
    file = json.loads(document((TRAIN,)))
    row = file["requests"][0]
    for path, value in changes.items():
        *holders, name = path.split("__")
        target = row
        for holder in holders:
            target = target[holder]
        target[name] = value
    return json.dumps(file)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no request"),
        ("[" * 100_000, "no request"),
        ("[]", "no request"),
        ('{"schema_version": 1, "requests": []}', "no request"),
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
        parse(text, "it")
    assert word in caught.value.message
    assert "\n" not in caught.value.message


def test_a_line_in_an_exported_file_is_held_to_the_same(tmp_path: Path) -> None:
    line = comment(TRAIN)
    assert parse(f"#!/bin/sh\n{line}\nexec true\n", "it") == (TRAIN,)
    assert "batch_size" not in line
    for broken in (line[:-4], line.replace('"method"', '"methods"'), line.replace('"train"', '"dance"')):
        with pytest.raises(RequestError, match="it") as caught:
            parse(broken, "it")
        assert caught.value.hint


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="absent"):
        read_requests(tmp_path / "absent.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="not text"):
        read_requests(tmp_path / "binary")
