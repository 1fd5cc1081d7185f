"""A case: peers that are compared in one thing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.params import Params


@dataclasses.dataclass(frozen=True)
class Case:
    """Peers that are compared in one thing.

    Attributes:
        name: QUANTITY or QUANTITY/VARIANT; GROUP-NAME is a quantity of a group.
        about: what is done, in a few words, for tables.
        measure: the one of the quantity's measures that tables show.
        params: how each process measures.
        peers: who is compared, in the tables' order.
        rounds: how many processes each peer gets.
    """

    name: str
    about: str
    measure: str
    params: Params
    peers: tuple[str, ...]
    rounds: int = 5

    @property
    def quantity(self) -> str:
        """What is measured: a module of `bench.quantities`."""
        return self.name.partition("/")[0]

    @property
    def names(self) -> set[str]:
        """By what it is chosen on the command line."""
        return {self.name, self.quantity, self.quantity.partition("-")[0]}

    def quick(self) -> Case:
        """The same with a tenth of the effort, for development."""
        fewer = dataclasses.replace(
            self.params, count=max(2, self.params.count // 10), warm=max(1, self.params.warm // 5)
        )
        return dataclasses.replace(self, params=fewer, rounds=1)
