"""inventory/gpus.yml as typed data: GPUs by PCI id, how they are cut, which drivers serve them, what machines need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .paths import home
from .support import minor
from .versions import numbers

Modules = Literal["open", "proprietary"]
Service = Literal["fabric_manager", "nvlsm", "imex"]
MOST_SLICES = 7


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Branch(_Data):
    """One branch of the driver. serves: architecture → the kernel modules there are for it, the better first."""

    kind: Literal["long-term", "production", "new-feature", "ended"]
    newest: str = ""
    serves: Mapping[str, Sequence[Modules]]


class Slot(_Data):
    """Where a slice may lie: `size` memory parts, from one of `starts` on; most: how many, 0 = as many as fit."""

    size: int = Field(ge=1)
    starts: Sequence[int]
    most: int = 0


class Product(_Data):
    """One kind of GPU."""

    name: str
    type: str
    pci: Sequence[Annotated[str, Field(pattern=r"^[0-9a-f]{4}$")]]
    architecture: str
    memory_gb: int = Field(ge=1)
    since: str
    nvlinks: int = 0
    open_only: bool = False
    cut: str = ""
    mig: Mapping[str, str] = {}


class Platform(_Data):
    """What is built around GPUs; products: [] = any."""

    name: str
    products: Sequence[str]
    switches: Sequence[str]
    services: Sequence[Service]
    allreduce_gbs: float


class Operator(_Data):
    """A release of the GPU Operator. kubernetes: (oldest, newest) minor release that it is for."""

    kubernetes: tuple[str, str]
    branch: str


class Gpus(_Data):
    """All of it; what one part names, another has."""

    branches: Mapping[str, Branch]
    cuts: Mapping[str, Mapping[str, Slot]]
    products: Mapping[str, Product]
    platforms: Sequence[Platform]
    operators: Mapping[str, Operator]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        owners: dict[str, str] = {}
        for name, one in self.products.items():
            if one.since not in self.branches:
                raise ValueError(f"product {name}: there is no branch {one.since}")
            if bool(one.cut) != bool(one.mig) or (one.cut and one.cut not in self.cuts):
                raise ValueError(f"product {name}: mig and cut do not go together")
            if unknown := set(one.mig.values()) - set(self.cuts.get(one.cut, {})):
                raise ValueError(f"product {name}: no slot is called {min(unknown)}")
            for device in one.pci:
                if owners.setdefault(device, name) != name:
                    raise ValueError(f"{device} is {owners[device]} and {name}")
        for platform in self.platforms:
            if lost := set(platform.products) - set(self.products):
                raise ValueError(f"platform {platform.name}: there is no product {min(lost)}")
        return self

    def by_pci(self, device: str) -> str:
        """The product with a PCI device id, '' where none is known."""
        wanted = device.lower().removeprefix("0x")
        return next((name for name, one in self.products.items() if wanted in one.pci), "")

    def of_type(self, kind: str) -> list[str]:
        """The products that people and Slurm call by one name."""
        return [name for name, one in self.products.items() if one.type == kind.lower()]

    def kinds(self, branch: str, product: str) -> list[Modules]:
        """The kernel modules that a branch has for a product, the better first; none where it does not serve it."""
        one = self.products[product]
        if numbers(branch) < numbers(one.since):
            return []
        found = list(self.branches[branch].serves.get(one.architecture, ()))
        return [kind for kind in found if kind == "open"] if one.open_only else found

    def platform(self, products: Iterable[str], switches: Iterable[str]) -> Platform:
        """The platform of a machine with these products, and these devices on its PCI bus."""
        wanted, seen = set(products), set(switches)
        for one in self.platforms:
            known = not one.products or (wanted and wanted <= set(one.products))
            if known and (not one.switches or seen & set(one.switches)):
                return one
        raise LookupError("the last platform fits every machine")

    def misfit(self, product: str, layout: Mapping[str, int]) -> str:
        """Why one GPU of a product cannot be cut into these slices; '' where it can."""
        one = self.products[product]
        for name in layout:
            if name not in one.mig:
                known = ", ".join(one.mig) or "none"
                return f"{one.name} has no slice {name}; it has: {known}."
        if sum(layout.values()) > MOST_SLICES:
            return f"A GPU has at most {MOST_SLICES} slices."
        slots = [self.cuts[one.cut][one.mig[name]] for name, count in layout.items() for _ in range(count)]
        for name, count in layout.items():
            most = self.cuts[one.cut][one.mig[name]].most
            if most and count > most:
                return f"{one.name} has room for {most} {name}, not {count}."
        if not _placed(sorted(slots, key=lambda slot: -slot.size)):
            return f"{one.name} has no room for these slices together."
        return ""

    def operator_misfit(self, operator: str, kubernetes: str) -> str:
        """Why a release of the GPU Operator does not go with one of Kubernetes; '' where it does."""
        one = self.operators.get(minor(operator))
        if one is None:
            return f"No release {minor(operator)} of the GPU Operator is known."
        oldest, newest = one.kubernetes
        if numbers(oldest) <= numbers(minor(kubernetes)) <= numbers(newest):
            return ""
        return (
            f"GPU Operator {operator} is for Kubernetes {oldest} to {newest}, and the site has {kubernetes}."
        )


def _placed(slots: Sequence[Slot], taken: frozenset[int] = frozenset()) -> bool:
    """Whether slices can lie beside each other; the largest come first, as they have the fewest places."""
    if not slots:
        return True
    first, *others = slots
    for start in first.starts:
        place = frozenset(range(start, start + first.size))
        if not place & taken and _placed(others, taken | place):
            return True
    return False


@cache
def _load(path: Path) -> Gpus:
    return Gpus.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def gpus(path: Path | None = None) -> Gpus:
    """The toolkit's data."""
    return _load(path or home() / "inventory" / "gpus.yml")
