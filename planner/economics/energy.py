"""Energy and carbon of a job: what the machines draw, what the site adds, what the grid emits."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hardware_db.gpu import Gpu
from planner.citation import Citation
from planner.economics import assumptions
from planner.errors import RequestError

SOURCE = Citation(title="Patterson et al. (2021), equation 1", url="https://arxiv.org/abs/2104.10350")
FORMULA = "kWh = TDP × GPUs × host × PUE × hours"
_W_PER_KW = 1000
_G_PER_KG = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where machines run."""

    pue: Decimal = assumptions.PUE.value
    host_power: Decimal = assumptions.HOST_POWER.value
    usd_per_kwh: Decimal = assumptions.USD_PER_KWH.value
    grid_g_per_kwh: Decimal = assumptions.GRID_G_PER_KWH.value

    def __post_init__(self) -> None:
        if self.pue < 1:
            raise RequestError("a site draws at least what its machines draw: PUE is 1 or more", hint="--pue 1.2")
        if self.host_power < 1:
            raise RequestError("a machine draws at least what its GPUs draw: the factor is 1 or more")
        if self.usd_per_kwh < 0 or self.grid_g_per_kwh < 0:
            raise RequestError("the price of electricity and the carbon of the grid cannot be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """What a job draws from the grid. GPUs are taken at their TDP, as published model cards do."""

    kwh: Decimal
    usd: Decimal
    kg_co2e: Decimal


def site_kw(gpu: Gpu, num_gpus: int, site: Site) -> Decimal | None:
    """Draw at the meter in kW: TDP × host × PUE; None where the TDP is unknown."""
    if gpu.tdp_w is None:
        return None
    return Decimal(gpu.tdp_w) * num_gpus * site.host_power * site.pue / _W_PER_KW


def energy(gpu: Gpu, num_gpus: int, hours: float, site: Site) -> Energy | None:
    """Energy of ``num_gpus`` GPUs at full load for ``hours``; None where the TDP is unknown."""
    kw = site_kw(gpu, num_gpus, site)
    if kw is None:
        return None
    kwh = kw * Decimal(str(hours))
    return Energy(kwh=kwh, usd=kwh * site.usd_per_kwh, kg_co2e=kwh * site.grid_g_per_kwh / _G_PER_KG)
