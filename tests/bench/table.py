"""The rows of the benchmark: numbers by name, and what could not be measured with the reason."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Board:
    """Collects numbers. gone: names that could not be measured here, with the reason."""

    numbers: dict[str, float] = field(default_factory=dict)
    explanations: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: float, explanation: str) -> None:
        """Note one number."""
        self.numbers[name] = round(value, 4)
        self.explanations[name] = explanation

    def leave_out(self, name: str, reason: str) -> None:
        """Note that a number could not be measured."""
        self.gone[name] = reason

    def show(self, console: Console) -> None:
        """Print all."""
        table = Table("name", "value", "what it is")
        table.columns[1].justify = "right"
        for name, value in self.numbers.items():
            table.add_row(name, f"{value:.3g}" if value < 100 else f"{value:.0f}", self.explanations[name])
        console.print(table)
        for name, reason in self.gone.items():
            console.print(f"{name}: not measured, {reason}")

    def write(self, path: Path) -> None:
        """Write the numbers as flat JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.numbers, indent=1) + "\n")
