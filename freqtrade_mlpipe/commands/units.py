"""One unit of work after the other; those that fail are listed, the others done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import Context
from freqtrade_mlpipe.commands.display import console, progress_console
from freqtrade_mlpipe.exceptions import GateRefusedError, MLPipeError
from freqtrade_mlpipe.integration.data import whitelist
from freqtrade_mlpipe.retraining.units import Unit, units_of


@dataclass(frozen=True)
class UnitResult:
    """What became of a unit: `outcome` in a word or two, `said` in a sentence."""

    model_name: str
    pairs: tuple[str, ...]
    version: str
    outcome: str
    said: str
    exit_code: int


def units(context: Context) -> list[Unit]:
    """The units of the configuration."""
    return units_of(context.mlpipe, whitelist(context.freqtrade))


def each(work: Callable[[Unit], UnitResult], of: Sequence[Unit]) -> list[UnitResult]:
    """Do all of them, whatever becomes of one."""
    from freqtrade.exceptions import FreqtradeException

    results = []
    for number, unit in enumerate(of, 1):
        progress_console.print(
            f"{number}/{len(of)} {', '.join(unit.pairs)}", highlight=False, soft_wrap=True
        )
        try:
            results.append(work(unit))
        except (MLPipeError, FreqtradeException) as error:
            code = getattr(error, "exit_code", MLPipeError.exit_code)
            results.append(UnitResult(unit.model_name, unit.pairs, "-", "failed", str(error), code))
    return results


def finish(results: Sequence[UnitResult], *, as_json: bool = False) -> int:
    """Print the table; the exit code: 2 where one failed, else 3 where the gates refused one."""
    if as_json:
        stdout.write_json({"units": [asdict(result) for result in results]})
    else:
        table = Table()
        for column in ("pairs", "model", "version", "outcome", "what it says"):
            table.add_column(column)
        for result in results:
            table.add_row(
                ", ".join(result.pairs),
                result.model_name,
                result.version,
                result.outcome,
                result.said,
            )
        console.print(table)
    codes = {result.exit_code for result in results}
    worst = (MLPipeError.exit_code, GateRefusedError.exit_code)
    return next((code for code in worst if code in codes), 0)
