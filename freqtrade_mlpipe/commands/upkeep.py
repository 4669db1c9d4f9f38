"""`archive`, `delete`, `prune`, `doctor`, `tag`: keeping the registry in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from freqtrade_mlpipe.commands import stdout
from freqtrade_mlpipe.commands.context import load_context
from freqtrade_mlpipe.commands.display import console, n_bytes, print_version
from freqtrade_mlpipe.commands.lifecycle import wanted_version
from freqtrade_mlpipe.exceptions import ConfigError

if TYPE_CHECKING:
    from freqtrade_mlpipe.registry import ModelRegistry, ModelVersion, Problem, Prunable

_AGAIN = "Nothing was deleted. To delete, run the same command with --yes."


def start_archive(arguments: dict[str, Any]) -> int:
    """Take a version out of consideration; it can come back through the gates."""
    context = load_context(arguments)
    version = wanted_version(context, arguments.get("model_version"))
    context.registry().archive_model(
        version.name, version.version, reason=arguments.get("notes") or ""
    )
    print_version(version, "is archived")
    return 0


def start_delete(arguments: dict[str, Any]) -> int:
    """Show what would go; with --yes, delete it."""
    context = load_context(arguments)
    registry = context.registry()
    if not arguments.get("model_version"):
        raise ConfigError("Which version? Name it with --model-version N.")
    version = wanted_version(context, arguments["model_version"])
    if str(version.status) == "PRODUCTION":
        raise _in_production(version)
    size = n_bytes(registry.bytes_of(version))
    if not arguments.get("confirmed"):
        print_version(version, f"({version.status}, {size}) would be deleted for good")
        console.print(_AGAIN)
        return 0
    registry.delete_model(version.name, version.version, reason=arguments.get("notes") or "")
    print_version(version, f"is deleted, {size} are free")
    return 0


def start_prune(arguments: dict[str, Any]) -> int:
    """Show what retention does not keep; with --yes, delete it."""
    context = load_context(arguments)
    registry, name = context.registry(), context.mlpipe.model_name
    keep = arguments.get("keep") or context.mlpipe.registry.keep_versions
    confirmed = bool(arguments.get("confirmed"))
    items = registry.prune(name, keep) if confirmed else registry.plan_prune(name, keep)
    if arguments.get("print_json"):
        stdout.write_json({"deleted": confirmed, "versions": [_plain_item(item) for item in items]})
        return 0
    if not items:
        console.print(
            f"{name}: nothing to delete. Kept are production, the version before it, what has a "
            f"tag, and the last {keep}."
        )
        return 0
    _print_prunable(name, items, confirmed)
    return 0


def start_doctor(arguments: dict[str, Any]) -> int:
    """Report leftovers; with --yes, mend them. Exit code 2 while something is left for a person."""
    context = load_context(arguments)
    registry: ModelRegistry = context.registry()
    problems = registry.doctor(
        mend=bool(arguments.get("confirmed")), every=bool(arguments.get("every_version"))
    )
    if arguments.get("print_json"):
        stdout.write_json([_plain_problem(problem) for problem in problems])
    elif not problems:
        console.print("The registry is in order.")
    else:
        _print_problems(problems)
    unmendable = any(problem.mend is None for problem in problems)
    return ConfigError.exit_code if unmendable else 0


def start_tag(arguments: dict[str, Any]) -> int:
    """Change the tags and the note of a version."""
    context = load_context(arguments)
    add, remove = arguments.get("add_tag") or (), arguments.get("remove_tag") or ()
    if not add and not remove and arguments.get("new_notes") is None:
        raise ConfigError("Nothing to change. Give --add TAG, --remove TAG or --notes TEXT.")
    version = wanted_version(context, arguments.get("model_version"))
    changed = context.registry().tag_model(
        version.name, version.version, add=add, remove=remove, notes=arguments.get("new_notes")
    )
    print_version(changed, f"has the tags: {', '.join(changed.tags) or 'none'}")
    return 0


def _in_production(version: ModelVersion) -> ConfigError:
    return ConfigError(
        f"Version {version.version} of {version.name} is in production: it cannot be deleted. "
        "Promote or roll back to another version first."
    )


def _print_prunable(name: str, items: Sequence[Prunable], confirmed: bool) -> None:
    table = Table(
        title=f"{name}: {'deleted' if confirmed else 'would be deleted'}", title_justify="left"
    )
    for column in ("version", "status", "created (UTC)", "size"):
        table.add_column(column, justify="right" if column == "size" else "left")
    for item in items:
        version = item.version
        table.add_row(
            version.version, str(version.status), f"{version.created_at:%Y-%m-%d %H:%M}",
            n_bytes(item.n_bytes),
        )  # fmt: skip
    console.print(table)
    total = n_bytes(sum(item.n_bytes for item in items))
    console.print(f"{len(items)} versions, {total} {'are free' if confirmed else 'would be free'}.")
    if not confirmed:
        console.print(_AGAIN)


def _print_problems(problems: Sequence[Problem]) -> None:
    table = Table()
    for column in ("where", "what", "size", "state"):
        table.add_column(column, justify="right" if column == "size" else "left")
    for problem in problems:
        state = (
            "mended" if problem.mended else "can be mended" if problem.mend else "for you to mend"
        )
        table.add_row(
            problem.where, problem.what, n_bytes(problem.n_bytes) if problem.n_bytes else "", state
        )
    console.print(table)
    if any(problem.mend and not problem.mended for problem in problems):
        console.print("Nothing was changed. To mend, run the same command with --yes.")


def _plain_item(item: Prunable) -> dict[str, Any]:
    version = item.version
    return {"version": version.version, "status": str(version.status), "bytes": item.n_bytes}


def _plain_problem(problem: Problem) -> dict[str, Any]:
    return {
        "where": problem.where,
        "what": problem.what,
        "bytes": problem.n_bytes,
        "mendable": problem.mend is not None,
        "mended": problem.mended,
    }
