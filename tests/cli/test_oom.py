"""``plan oom`` as a user meets it: a pasted message, a log file, with and without the request."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

RunPlan = Callable[..., subprocess.CompletedProcess[str]]

MESSAGE = (
    '  File "trainer_pt_utils.py", line 86, in torch_pad_and_concatenate\n'
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 5.64 GiB. GPU 0 has a total capacity of 14.75 GiB "
    "of which 5.47 GiB is free. Process 9 has 9.27 GiB memory in use. Of the allocated memory 7.58 GiB is "
    "allocated by PyTorch, and 1.57 GiB is reserved by PyTorch but unallocated.\n"
)


def test_a_piped_message_is_explained(run_plan: RunPlan) -> None:
    done = run_plan("oom", stdin=f"step 40\n{MESSAGE}")
    assert done.returncode == 0, done.stderr
    assert "Fragmentation" in done.stdout
    assert "eval_accumulation_steps=1" in done.stdout
    assert done.stderr == ""


def test_with_the_request_changes_carry_predicted_savings(run_plan: RunPlan, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(MESSAGE)
    request = ("--model", "llama-3.2-1b", "--method", "lora", "--batch-size", "8", "--seq-len", "1024")
    done = run_plan("oom", str(log), *request, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["message"]["cause"] == "fragmentation"
    assert answer["limit_bytes"] == round(14.75 * 1024**3)
    predicted = [change for change in answer["changes"] if change["device_bytes"] is not None]
    assert predicted
    assert all(
        change["saving_bytes"] == answer["predicted_bytes"] - change["device_bytes"] > 0 for change in predicted
    )


def test_text_without_a_message_and_a_missing_file_are_one_line(run_plan: RunPlan) -> None:
    for done in (run_plan("oom", stdin="all went well"), run_plan("oom", "no-such.log")):
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""


def test_explaining_a_message_needs_no_torch(run_plan: RunPlan) -> None:
    """The machine that ran out of memory is not always the one the message is read on."""
    done = run_plan("oom", stdin=MESSAGE, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "validate.oom" in imported
    assert not imported & {"torch", "transformers", "pydantic", "rich"}
