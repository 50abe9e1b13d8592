"""What an answer about money or energy assumes when the user does not say: each with its source and date."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from planner.citation import Citation


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """A default that an option can replace."""

    name: str
    value: Decimal
    unit: str
    as_of: str
    source: Citation
    doubt: str = ""


PUE = Assumption(
    name="power usage effectiveness",
    value=Decimal("1.56"),
    unit="site power per power of the machines",
    as_of="2024",
    source=Citation(
        title="Uptime Institute Global Data Center Survey 2024",
        url="https://journal.uptimeinstitute.com/large-data-centers-are-mostly-more-efficient-analysis-confirms/",
    ),
    doubt="an average; hyperscale sites report 1.1, an office has 1.0 plus its air conditioning",
)
HOST_POWER = Assumption(
    name="power of the whole machine",
    value=Decimal("1.34"),
    unit="machine power per TDP of its GPUs",
    as_of="2024",
    source=Citation(
        title="DGX H100: 6.5 to 8.5 kW typical, 10.2 kW at most, around 8 GPUs of 700 W",
        url="https://www.supercluster.blog/p/6-ai-supercluster-nvidia-dgx-h100",
    ),
    doubt="the middle of the typical range; 1.82 at the most",
)
USD_PER_KWH = Assumption(
    name="price of electricity",
    value=Decimal("0.13"),
    unit="USD per kWh",
    as_of="2025",
    source=Citation(
        title="EIA Electric Power Monthly, table 5.6.A: U.S. commercial customers",
        url="https://www.eia.gov/electricity/monthly/epm_table_grapher.php?t=table_5_06_a",
    ),
    doubt="rounded; regions range from 0.10 to 0.23",
)
GRID_G_PER_KWH = Assumption(
    name="carbon intensity of the grid",
    value=Decimal(473),
    unit="g CO2e per kWh",
    as_of="2024",
    source=Citation(
        title="Ember Global Electricity Review 2025: world average of 2024",
        url="https://ember-energy.org/latest-insights/global-electricity-review-2025/global-electricity-trends/",
    ),
    doubt="countries range from about 30 to 700; the IEA gives 445 for the same year",
)
LIFETIME_YEARS = Assumption(
    name="useful life",
    value=Decimal(5),
    unit="years",
    as_of="2025-01",
    source=Citation(
        title="Amazon 10-K of 2024: servers cut from six years to five",
        url="https://deepquarry.substack.com/p/amazon-revises-server-lifespan-amid",
    ),
    doubt="Meta books 5.5 years, Microsoft and Alphabet 6",
)
INTERRUPTIONS_PER_DAY = Assumption(
    name="chance that a spot instance is taken away within a day",
    value=Decimal("0.15"),
    unit="per instance and day",
    as_of="2019",
    source=Citation(
        title="Google Cloud, preemptible instances: 5% to 15% per day, seven-day average",
        url="https://cloud.google.com/compute/docs/instances/preemptible",
    ),
    doubt="the upper end; no cloud promises a rate, and scarce GPUs are taken more often",
)
RESTART_MINUTES = Assumption(
    name="time to get a new instance and load the checkpoint",
    value=Decimal(15),
    unit="minutes",
    as_of="",
    source=Citation(title="assumed, no source"),
    doubt="a region without capacity can mean hours",
)
CHECKPOINT_MINUTES = Assumption(
    name="time one checkpoint stops training",
    value=Decimal(1),
    unit="minutes",
    as_of="",
    source=Citation(title="assumed, no source"),
    doubt="grows with the trainable state; adapters take seconds",
)
MFU = Assumption(
    name="share of the dense peak that pretraining attains",
    value=Decimal("0.40"),
    unit="model FLOP/s per peak FLOP/s",
    as_of="2024",
    source=Citation(
        title="Llama 3 (2024), section 3.3.2: 38% to 43% on H100", url="https://arxiv.org/abs/2407.21783"
    ),
    doubt="PaLM's table 3 collects 21% (GPT-3) to 46% (PaLM)",
)
MFU_LOW = Decimal("0.21")
MFU_HIGH = Decimal("0.46")
MFU_RANGE_SOURCE = Citation(
    title="PaLM (2022), table 3: GPT-3 21.3%, PaLM 46.2%", url="https://arxiv.org/abs/2204.02311"
)
