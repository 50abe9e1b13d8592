"""Whatever is typed ends in an answer or one line, never in a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import os
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.errors import ExitCode
from tui.cli import run
from tui.request_options import OPTIONS, RequestOption

NONSENSE = st.sampled_from(
    [
        "",
        " ",
        "-1",
        "0",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "9" * 400,
        "0x10",
        "None",
        "--",
        "é",
        "\x00",
        "a\nb",
        "1.5",
        "[]",
    ]
) | st.text(max_size=12)
MODELS = st.sampled_from(
    [
        "llama-70b",
        "llama-1b",
        "mixtral-8x7b",
        "deepseek-v3",
        "t5-base",
        "bert-base",
        "mamba-130m",
        "gpt2",
        "params:3B",
    ]
)
SIZES = st.integers(-1, 3) | st.sampled_from([8, 64, 2048, 8192, 10**6, 10**12, 10**40])


def values_of(option: RequestOption) -> st.SearchStrategy[str]:
    match option.kind:
        case "choice" | "checkpointing":
            sound = st.sampled_from(option.choices)
        case "int":
            sound = SIZES.map(str)
        case "float" | "usd":
            sound = st.floats(-1, 4).map(str)
        case "bytes":
            sound = st.sampled_from(["24GiB", "80GB", "1"])
        case "list":
            sound = st.sampled_from(["A100 80GB", "H100", "q_proj,v_proj", "aws", "eu"])
        case _:
            sound = st.sampled_from(["bf16", "nf4", "gguf-q4_k_m", "awq-int4", "fp8", "vllm", "torchtitan", "2.9"])
    return sound | NONSENSE


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    args = ["--model", draw(MODELS | NONSENSE)]
    if draw(st.booleans()):
        args += ["--bits", draw(st.sampled_from(["32", "16", "8", "4", "1.58"]) | NONSENSE)]
    if draw(st.booleans()):
        args += ["--task", draw(st.sampled_from(["train", "serve"]))]
    for option in draw(st.lists(st.sampled_from(list(OPTIONS.values())), max_size=4, unique=True)):
        if option.kind == "switch":
            args.append(option.flag)
        else:
            args += [option.flag, draw(values_of(option))]
    return [*args, *draw(st.sampled_from([[], ["--json"], ["--csv"], ["--explain"], ["--tier", "rule"]]))]


@settings(
    deadline=None,
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "200")),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(args=command_lines())
def test_any_command_line_ends_in_an_answer_or_one_line(args: list[str]) -> None:
    with (
        patch.dict(os.environ, {"HF_HUB_OFFLINE": "1"}),
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = run(args)
    assert code in (
        ExitCode.OK,
        ExitCode.DOES_NOT_FIT,
        ExitCode.BAD_REQUEST,
        ExitCode.UNKNOWN,
        ExitCode.ENVIRONMENT,
    )
    if code in (ExitCode.OK, ExitCode.DOES_NOT_FIT):
        assert out.getvalue().strip()
        if "--json" in args:
            document = json.loads(out.getvalue())
            for row in document["estimates"]:
                assert 0 < row["low_bytes"] <= row["expected_bytes"] <= row["high_bytes"]
                assert sum(term["size_bytes"] for term in row["terms"]) == row["expected_bytes"]
    else:
        assert out.getvalue() == ""
        assert err.getvalue().count("\n") == 1
