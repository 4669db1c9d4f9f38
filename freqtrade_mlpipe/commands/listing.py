"""`list-models`, `show-model`, `history`: looking at the registry."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import load_context
from freqtrade_mlpipe.commands.display import console, number, print_gates, print_mapping
from freqtrade_mlpipe.commands.lifecycle import wanted_version

if TYPE_CHECKING:
    from freqtrade_mlpipe.registry import LedgerEntry, ModelVersion


_METRICS = {
    "roc_auc": "ROC AUC",
    "log_loss": "log-loss",
    "spearman": "rank correlation",
    "rmse": "RMSE",
}
"""Columns of `list-models`, where any version has them: classifiers have others than regressions."""


def start_list_models(arguments: dict[str, Any]) -> int:
    """Every version of every model, or of one."""
    context = load_context(arguments)
    registry = context.registry()
    names = [arguments["all_models"]] if arguments.get("all_models") else registry.get_model_names()
    versions = [version for name in names for version in registry.get_all_versions(name)]
    if arguments.get("print_json"):
        stdout.write_json([_plain(version) for version in versions])
        return 0
    if not versions:
        console.print("No models yet. Train one with `freqtrade-mlpipe train`.")
        return 0
    shown = {
        name: title
        for name, title in _METRICS.items()
        if any(name in version.metrics for version in versions)
    }
    table = Table("model", "version", "status", "created (UTC)", *shown.values(), "tags")
    for version in versions:
        table.add_row(
            version.name,
            version.version,
            str(version.status),
            f"{version.created_at:%Y-%m-%d %H:%M}",
            *(number(version.metrics.get(name)) for name in shown),
            ", ".join(version.tags),
        )
    console.print(table)
    return 0


def start_show_model(arguments: dict[str, Any]) -> int:
    """Everything the registry knows of one version."""
    from freqtrade_mlpipe.registry import verify_bundle

    context = load_context(arguments)
    version = wanted_version(context, arguments.get("model_version"))
    manifest, _, _ = verify_bundle(version.model_path)
    entries = context.registry().get_model_history(version.name)
    forced = [entry for entry in entries if entry.forced and entry.version == version.version]
    if arguments.get("print_json"):
        told = {"manifest": manifest.model_dump(mode="json"), "forced": [*map(_entry, forced)]}
        stdout.write_json({**_plain(version), **told})
        return 0
    print_mapping(
        f"{version.name} version {version.version}",
        {
            "status": version.status,
            "created (UTC)": f"{version.created_at:%Y-%m-%d %H:%M}",
            "pairs": ", ".join(manifest.pairs),
            "timeframe": manifest.timeframe,
            "trained on (UTC)": f"{_moment(manifest.train_start)} to {_moment(manifest.train_end)}",
            "final window from (UTC)": _moment(manifest.final_window_start),
            "walk-forward members": len(manifest.members) - 1,
            "features": len(manifest.features),
            "data hash": manifest.data_hash,
            "digest": version.digest,
            "tracking run": version.run_id,
            "tags": ", ".join(version.tags) or "-",
            "notes": version.notes,
        },
    )
    print_mapping("Out-of-sample metrics", dict(sorted(version.metrics.items())))
    for entry in forced:
        console.print(
            f"Promoted past the gates on {entry.at:%Y-%m-%d %H:%M} UTC by {entry.actor}: {entry.reason}",
            style="bold red",
            markup=False,
        )
    if version.report is None:
        console.print("Not validated yet.")
    else:
        print_gates(version.report, version)
    return 0


def start_history(arguments: dict[str, Any]) -> int:
    """Promotions and rollbacks, oldest first."""
    context = load_context(arguments)
    entries = context.registry().get_model_history(context.mlpipe.model_name)
    if arguments.get("print_json"):
        stdout.write_json([_entry(entry) for entry in entries])
        return 0
    table = Table(
        title=f"{context.mlpipe.model_name}: promotions and rollbacks", title_justify="left"
    )
    for column in ("#", "when (UTC)", "what", "version", "before", "after", "who", "reason"):
        table.add_column(column)
    for entry in entries:
        table.add_row(
            str(entry.number), f"{entry.at:%Y-%m-%d %H:%M:%S}", f"{'forced ' if entry.forced else ''}{entry.action}",
            entry.version, entry.previous or "-", entry.production or "-", entry.actor, entry.reason,
        )  # fmt: skip
    console.print(table)
    return 0


def _moment(time: datetime | None) -> str:
    return "unknown" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _entry(entry: LedgerEntry) -> dict[str, Any]:
    return {**asdict(entry), "at": entry.at.isoformat()}


def _plain(version: ModelVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "status": str(version.status),
        "created_at": version.created_at.isoformat(),
        "metrics": version.metrics,
        "tags": list(version.tags),
        "digest": version.digest,
        "run_id": version.run_id,
        "notes": version.notes,
        "report": version.report.to_dict() if version.report else None,
    }
