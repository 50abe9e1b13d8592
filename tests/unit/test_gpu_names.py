"""Names as drivers, benchmarks and people write them."""

from __future__ import annotations

import pytest

from hardware_db.catalog import UnknownGpuError, all_gpus, find_gpu, match_gpu


@pytest.mark.parametrize(
    ("name", "gpu_id"),
    [
        ("A100 80GB", "a100-sxm4-80gb"),
        ("a100", "a100-sxm4-80gb"),
        ("A100-40GB", "a100-sxm4-40gb"),
        ("NVIDIA A100-SXM4-80GB (79.251 GiB)", "a100-sxm4-80gb"),
        ("A100-SXM4-80GB (330W limit)", "a100-sxm4-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("A100 (memory not stated)", "a100-sxm4-80gb"),
        ("h100", "h100-sxm5-80gb"),
        ("H100-PCIE-80GB", "h100-pcie-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie-80gb"),
        ("H100-SXM 96GB HBM2e 500W", "h100-sxm5-96gb"),
        ("H200-SXM-141GB", "h200-sxm"),
        ("NVIDIA GH200 480GB", "gh200-96gb"),
        ("GH200-141GB (900W)", "gh200-144gb"),
        ("Tesla T4 (14.748 GiB)", "t4"),
        ("Tesla T4 (14.563 GiB)", "t4"),
        ("NVIDIA L4 (22.161 GiB)", "l4"),
        ("L40S (44.42 GiB)", "l40s"),
        ("L20 48GB", "l20"),
        ("A10G 24GB", "a10g"),
        ("V100 (PCIe/SXM not stated)", "v100-sxm2-16gb"),
        ("V100S-PCIE-32GB", "v100s-pcie-32gb"),
        ("rtx4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("RTX 4090 48GB", "rtx-4090-48gb"),
        ("RTX 2080 Ti 22GB", "rtx-2080-ti-22gb"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000-blackwell-workstation"),
        ("NVIDIA GB10", "dgx-spark"),
        ("MI250X (one GCD)", "mi250x-gcd"),
        ("AMD Instinct MI300X", "mi300x"),
        ("Apple M4 Max", "apple-m4-max"),
        ("GB200-186GB", "gb200"),
    ],
)
def test_usual_spellings(name: str, gpu_id: str) -> None:
    assert find_gpu(name).id == gpu_id


def test_every_entry_answers_to_its_id_name_and_aliases() -> None:
    for gpu in all_gpus():
        for name in (gpu.id, gpu.name, *gpu.aliases, gpu.name.upper(), gpu.name.replace(" ", "-")):
            assert find_gpu(name) is gpu


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        "A100 64GB",
        "H100 SXM4",
        "",
        "()",
        "🦙",
    ],
)
def test_other_products_do_not_pass_for_a_known_card(name: str) -> None:
    with pytest.raises(UnknownGpuError):
        find_gpu(name)


def test_an_ambiguous_name_says_what_else_it_could_be() -> None:
    match = match_gpu("A100 80GB")
    assert match.gpu.id == "a100-sxm4-80gb"
    assert [gpu.id for gpu in match.others] == ["a100-pcie-80gb"]


@pytest.mark.parametrize(("typo", "near"), [("h1oo", "H100"), ("RTX 4009", "RTX 4090"), ("A100 64GB", "A100")])
def test_a_typo_gets_near_names(typo: str, near: str) -> None:
    with pytest.raises(UnknownGpuError) as caught:
        find_gpu(typo)
    assert any(near in name for name in caught.value.suggestions)
