"""``plan prices``: the dated table, a refresh through the real gpuhunt, and the user's own prices."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, RunPlan

HEADER = (
    "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size,gpu_vendor,flags,cpu_arch,"
    "provider_data"
)


def published(folder: Path, provider: str, *rows: str) -> str:
    """A price list as gpuhunt publishes it, reachable under a file address."""
    text = "\n".join([HEADER, *rows]) + "\n"
    (folder / provider / "1").mkdir(parents=True)
    (folder / provider / "version").write_text("1")
    with zipfile.ZipFile(folder / provider / "1" / "catalog.zip", "w") as archive:
        archive.writestr(f"{provider}.csv", text)
    return folder.as_uri()


def row(instance: str, price: float, name: str, memory: int, count: int = 1, spot: bool = False) -> str:
    return f"{instance},eu-1,{price},8,64,{count},{name},{memory},{spot},100,nvidia,,x86,{{}}"


def test_every_price_is_shown_with_its_age(run_plan: RunPlan) -> None:
    done = run_plan("prices", "h100")
    table = list(csv.reader(io.StringIO(run_plan("prices", "h100", "--csv").stdout)))
    assert done.returncode == 0
    assert table[0][-2:] == ["as of", "age"]
    assert {cells[-1].split()[-1] for cells in table[1:]} <= {"d", "stale", "unknown"}
    assert "older than 90 days" in done.stderr


def test_rows_put_aside_show_their_reason(run_plan: RunPlan) -> None:
    shown = json.loads(run_plan("prices", "--quarantined", "--provider", "gcp", "--json").stdout)
    assert shown
    assert all(offer["quarantined"] for offer in shown)


def test_a_refresh_supersedes_the_providers_dated_rows(run_plan: RunPlan, tmp_path: Path) -> None:
    address = published(
        tmp_path / "lists",
        "verda",
        row("1H100.80S.30V", 2.5, "H100", 80),
        row("8H100.80S.176V", 20.0, "H100", 80, 8),
        row("8H100.80S.176V", 30.0, "H100", 80, 8, spot=True),
        row("1H200.141S.44V", 3.0, "H200", 141),
        row("1L40S.20V", 0.0, "L40S", 48),
        row("1A6000.10V", 99.0, "A6000", 48),
        row("1X9000.1V", 1.0, "X9000", 12),
    )
    done = run_plan("prices", "refresh", "--provider", "verda", GPUHUNT_CATALOG_URL=address)
    assert done.returncode == 0, done.stderr
    assert "2 offers of 2 GPUs" in done.stdout
    for words in ("spot above on-demand", "no price", "median"):
        assert words in done.stdout
    assert "X9000 is in no catalogue" in done.stderr
    found = json.loads(run_plan("prices", "--provider", "verda", "--json").stdout)
    assert [(offer["gpu"], offer["usd_per_hour"], offer["age_days"]) for offer in found] == [
        ("h100-sxm5-80gb", 2.5, 0),
        ("h200-sxm", 3.0, 0),
    ]
    aside = json.loads(run_plan("prices", "--provider", "verda", "--quarantined", "--json").stdout)
    assert any("superseded by the refresh" in offer["quarantined"] for offer in aside)
    assert json.loads(run_plan("prices", "--provider", "lambda", "--json").stdout), "other providers stay"


def test_instance_names_tell_the_form_that_gpu_names_leave_open(run_plan: RunPlan, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    published(lists, "aws", row("p5.48xlarge", 55.0, "H100", 80, 8), row("p4d.24xlarge", 21.9, "A100", 40, 8))
    published(lists, "azure", row("Standard_NC24ads_A100_v4", 3.6, "A100", 80))
    published(lists, "gcp", row("a3-highgpu-8g", 80.0, "H100", 80, 8))
    published(
        lists, "lambdalabs", row("gpu_8x_h100_sxm5", 31.0, "H100", 80, 8), row("gpu_1x_h100", 3.0, "H100", 80)
    )
    address = published(
        lists, "runpod", row("NVIDIA H100 80GB HBM3", 3.9, "H100", 80), row("NVIDIA H100 NVL", 3.1, "H100NVL", 94)
    )
    names = ("aws", "azure", "gcp", "lambda", "runpod")
    chosen = [word for name in names for word in ("--provider", name)]
    done = run_plan("prices", "refresh", *chosen, GPUHUNT_CATALOG_URL=address)
    assert done.returncode == 0, done.stderr
    found = json.loads(run_plan("prices", "--json").stdout)
    live = {(offer["provider"], offer["gpu"]) for offer in found if offer["age_days"] == 0}
    assert live == {
        ("aws", "h100-sxm5-80gb"),
        ("aws", "a100-sxm4-40gb"),
        ("azure", "a100-pcie-80gb"),
        ("gcp", "h100-sxm5-80gb"),
        ("lambda", "h100-sxm5-80gb"),
        ("runpod", "h100-sxm5-80gb"),
        ("runpod", "h100-nvl-94gb"),
    }
    aside = json.loads(run_plan("prices", "--quarantined", "--provider", "lambda", "--json").stdout)
    assert any("variant" in offer["quarantined"] and offer["age_days"] == 0 for offer in aside)


def test_without_a_network_the_table_stays_in_force(run_plan: RunPlan, tmp_path: Path) -> None:
    before = run_plan("prices", "l40s", "--json").stdout
    done = run_plan("prices", "refresh", GPUHUNT_CATALOG_URL=(tmp_path / "nowhere").as_uri())
    assert done.returncode == 4
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert "stay in force" in done.stderr
    assert run_plan("prices", "l40s", "--json").stdout == before


def test_without_the_extra_one_line_says_what_to_install(run_plan: RunPlan, tmp_path: Path) -> None:
    (tmp_path / "gpuhunt.py").write_text("raise ImportError('not installed')")
    done = run_plan("prices", "refresh", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 4
    assert "pip install 'gpu-planner[live]'" in done.stderr


def test_own_machines_and_contracts(run_plan: RunPlan) -> None:
    assert (
        run_plan("prices", "add", "--gpu", "l40s", "--num-gpus", "4", "--owned", "--name", "lab").returncode == 0
    )
    assert run_plan("prices", "add", "--gpu", "l40s", "--usd-per-hour", "0.9", "--name", "deal").returncode == 0
    assert (
        "in place of"
        in run_plan("prices", "add", "--gpu", "l40s", "--usd-per-hour", "0.8", "--name", "deal").stdout
    )
    found = json.loads(run_plan("prices", "l40s", "--json").stdout)
    assert (found[0]["provider"], found[0]["usd_per_hour"], found[0]["num_gpus"]) == ("lab", 0, 4)
    assert [offer["usd_per_hour"] for offer in found if offer["provider"] == "deal"] == [0.8]
    assert run_plan("prices", "remove", "lab").returncode == 0
    assert "lab" not in run_plan("prices", "l40s").stdout


def test_own_prices_travel_as_a_file(run_plan: RunPlan, tmp_path: Path) -> None:
    run_plan("prices", "add", "--gpu", "t4", "--usd-per-hour", "0.1", "--name", "deal")
    exported = run_plan("prices", "export").stdout
    (tmp_path / "mine.csv").write_text(exported)
    run_plan("prices", "remove", "deal")
    assert run_plan("prices", "import", str(tmp_path / "mine.csv")).returncode == 0
    assert run_plan("prices", "export").stdout == exported


def test_a_plain_list_of_contracts_is_enough(run_plan: RunPlan, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("provider,gpu_id,num_gpus,usd_per_hour\ndeal,NVIDIA L40S,2,1.20\n")
    assert run_plan("prices", "import", "mine.csv").returncode == 0
    (offer,) = json.loads(run_plan("prices", "l40s", "--provider", "deal", "--json").stdout)
    assert (offer["num_gpus"], offer["usd_per_hour"], offer["source"]) == (2, 1.2, "mine.csv")
    (tmp_path / "mine.csv").write_text("provider,gpu_id,num_gpus,usd_per_hour\ndeal,L400S,2,1.20\n")
    done = run_plan("prices", "import", "mine.csv")
    assert (done.returncode, done.stdout) == (3, "")
    assert "did you mean L40S" in done.stderr


def test_a_broken_import_names_the_row_and_changes_nothing(run_plan: RunPlan, tmp_path: Path) -> None:
    run_plan("prices", "add", "--gpu", "t4", "--usd-per-hour", "0.1", "--name", "deal")
    before = run_plan("prices", "export").stdout
    good = before.replace("deal", "other")
    (tmp_path / "mine.csv").write_text(good + good.splitlines()[1].replace(",0.1,", ",free,") + "\n")
    done = run_plan("prices", "import", str(tmp_path / "mine.csv"))
    assert done.returncode == 2
    assert "mine.csv, line 3" in done.stderr
    assert run_plan("prices", "export").stdout == before


def test_a_broken_price_file_is_named_and_the_table_answers(run_plan: RunPlan, tmp_path: Path) -> None:
    run_plan("prices", "add", "--gpu", "t4", "--usd-per-hour", "0.1", "--name", "deal")
    (path,) = (tmp_path / "home").rglob("own_offers.csv")
    path.write_text(path.read_text().replace(",0.1,", ",free,"))
    done = run_plan("prices", "t4")
    assert done.returncode == 0
    assert "own_offers.csv, line 2" in done.stderr
    refused = run_plan("prices", "add", "--gpu", "t4", "--usd-per-hour", "0.2", "--name", "new")
    assert refused.returncode == 2
    assert "free" in path.read_text(), "what the user entered is never overwritten"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["h1oo"], 3),
        (["--provider", "nobody"], 1),
        (["add", "--gpu", "t4", "--name", "x"], 2),
        (["add", "--gpu", "t4", "--name", "x", "--usd-per-hour", "0"], 2),
        (["add", "--gpu", "t4", "--name", "x", "--usd-per-hour", "inf"], 2),
        (["add", "--gpu", "t4", "--name", "x", "--usd-per-hour", "1e999"], 2),
        (["add", "--gpu", "t4", "--name", " ", "--usd-per-hour", "1"], 2),
        (["add", "--gpu", "t4", "--name", "x", "--usd-per-hour", "1", "--num-gpus", "0"], 2),
        (["add", "--gpu", "h1oo", "--name", "x", "--usd-per-hour", "1"], 3),
        (["import", "no-such-file.csv"], 2),
        (["remove", "nothing"], 3),
    ],
)
def test_bad_input_ends_in_one_line(run_plan: RunPlan, arguments: list[str], code: int) -> None:
    done = run_plan("prices", *arguments)
    assert done.returncode == code
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_contract_per_gpu_rents_as_many_as_are_wanted(run_plan: RunPlan) -> None:
    job = (
        "--model",
        "llama-70b",
        "--method",
        "full",
        "--gpu",
        "l4",
        "--num-gpus",
        "8",
        "--provider",
        "deal",
        "--json",
    )
    offer = ("prices", "add", "--name", "deal", "--gpu", "l4", "--usd-per-hour", "0.25")
    assert run_plan(*offer).returncode == 0
    assert json.loads(run_plan(*job).stdout)["fits"][-1]["usd_per_hour"] is None
    assert run_plan(*offer, "--per-gpu").returncode == 0
    assert json.loads(run_plan(*job).stdout)["fits"][-1]["usd_per_hour"] == 2.0
    assert run_plan(*offer, "--per-gpu", "--num-gpus", "8").returncode == 2
