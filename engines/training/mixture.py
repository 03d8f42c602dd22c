"""What crops are drawn from: the training set, and where one is given another set beside it."""

from dataclasses import dataclass, replace

import numpy as np

from engines.training.cache import CachedCases, with_outlines


@dataclass(frozen=True, slots=True)
class Mixture:
    """A set, and another that a share of the crops comes from."""

    main: CachedCases
    beside: CachedCases | None = None
    share: float = 0.0

    def pick(self, rng: np.random.Generator) -> CachedCases:
        """The set that the next crop comes from."""
        if self.beside is None:
            return self.main
        return self.beside if rng.random() < self.share else self.main

    def with_outlines(self) -> "Mixture":
        """The same with an outline in every box."""
        beside = None if self.beside is None else with_outlines(self.beside)
        return replace(self, main=with_outlines(self.main), beside=beside)
