import pytest

from planner.errors import RequestError
from planner.units import GB, GIB, exact_count, format_bytes, format_gib, parse_bytes, parse_count


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("24GiB", 24 * GIB),
        ("80GB", 80 * GB),
        ("512", 512),
        ("1.5 GiB", 1610612736),
        ("10k", 10_000),
        ("10ki", 10_240),
    ],
)
def test_sizes_people_type(text: str, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-4GB", "12 parsecs", "9" * 50, "1e9"])
def test_nonsense_sizes_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_bytes(text)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_counts_are_decimal() -> None:
    assert parse_count("7B") == 7_000_000_000
    assert parse_count("2.4M") == 2_400_000


def test_display_is_gibibytes() -> None:
    assert format_gib(42_000_000_000) == "39.12 GiB"
    assert format_bytes(512) == "512 B"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999_999, "999999"),
        (10**6, "1M"),
        (2_400_000, "2.4M"),
        (2_345_678, "2345678"),
        (1_005 * 10**6, "1.005B"),
    ],
)
def test_an_exact_count_reads_back_to_itself(count: int, text: str) -> None:
    assert exact_count(count) == text
    assert parse_count(text) == count
