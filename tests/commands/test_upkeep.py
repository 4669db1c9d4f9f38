"""`tag`, `archive`, `delete`, `prune`, `doctor`, `keys`, `sign`, `verify`, and gates named on the command line."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from freqtrade_mlpipe.main import main
from tests.conftest import MODEL_NAME, Workspace

pytestmark = pytest.mark.e2e


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command, checks its exit code, and gives its standard output or error."""

    def run(workspace: Workspace, *command: str, code: int = 0) -> str:
        capsys.readouterr()
        assert workspace.run(*command) == code
        printed = capsys.readouterr()
        return words(printed.out if code in (0, 3) else printed.err)

    return run


def numbers(workspace: Workspace) -> list[str]:
    return [version.version for version in workspace.registry().get_all_versions(MODEL_NAME)]


def again(workspace: Workspace, times: int) -> None:
    """Registers version 1 again."""
    registry = workspace.registry()
    first = registry.get_version(MODEL_NAME, "1")
    for _ in range(times):
        registry.register_model(model_name=MODEL_NAME, model_path=first.model_path)


def test_tags_and_note_are_changed_and_shown(trained, out):
    assert "golden" in out(trained, "tag", "--add", "golden", "--notes", "keep this")
    shown = out(trained, "show-model")
    assert "golden" in shown
    assert "keep this" in shown
    assert "none" in out(trained, "tag", "--remove", "golden")
    assert "no tag 'golden'" in out(trained, "tag", "--remove", "golden", code=2)
    assert "Nothing to change" in out(trained, "tag", code=2)


def test_archived_version_is_shown_as_such(trained, out):
    assert "is archived" in out(trained, "archive", "--notes", "old")
    assert "ARCHIVED" in out(trained, "list-models")
    assert "archive" in out(trained, "history")


def test_deletion_asks_first(trained, out):
    again(trained, 1)
    said = out(trained, "delete", "--model-version", "2")
    assert "would be deleted" in said
    assert "--yes" in said
    assert numbers(trained) == ["2", "1"]
    assert "B are free" in out(trained, "delete", "--model-version", "2", "--yes")
    assert numbers(trained) == ["1"]
    assert "Which version" in out(trained, "delete", "--yes", code=2)


def test_production_is_never_deleted(production, out):
    for options in ([], ["--yes"]):
        said = out(production, "delete", "--model-version", "1", *options, code=2)
        assert "is in production" in said
    assert numbers(production) == ["1"]


def test_prune_shows_bytes_first(production, out, capsys):
    again(production, 3)
    said = out(production, "prune", "--keep", "2")
    assert "2" in said
    assert "would be free" in said
    assert numbers(production) == ["4", "3", "2", "1"]
    capsys.readouterr()
    assert production.run("prune", "--keep", "2", "--yes", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["version"] for row in found["versions"]] == ["2"]
    assert found["deleted"] is True
    assert found["versions"][0]["bytes"] > 1000
    assert numbers(production) == ["4", "3", "1"]
    assert "nothing to delete" in out(production, "prune", "--keep", "2")


def test_doctor_reports_and_mends(production, out, capsys):
    assert "in order" in out(production, "doctor")
    production.registry()._connection.set_alias(MODEL_NAME, "production", "1")
    production.registry()._connection.set_tag(MODEL_NAME, "1", "mlpipe.status", "STAGED")
    said = out(production, "doctor")
    assert "can be mended" in said
    assert "--yes" in said
    assert "mended" in out(production, "doctor", "--yes")
    capsys.readouterr()
    assert production.run("doctor", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_doctor_exits_2_while_a_person_is_needed(production, out):
    client = production.registry()._connection.client
    client.set_model_version_tag(f"{MODEL_NAME}.promotions", "1", "mlpipe.entry", "{")
    assert production.run("doctor", "--yes") == 2


def test_version_is_signed_verified_and_asked_for(trained, out, tmp_path, capsys):
    key = tmp_path / "key.pem"
    assert main(["keys", "generate", "--key-file", str(key)]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    settings = json.loads("{" + line.strip() + "}")["registry"]
    assert key.stat().st_mode & 0o777 == 0o600
    assert main(["keys", "show", "--key-file", str(key)]) == 0
    assert capsys.readouterr().out.strip() == settings["trusted_keys"][0]

    assert "not signed" in out(trained, "verify")
    trained.configure(registry=settings)
    assert trained.run("verify") == 2
    for command in (["validate"], ["promote", "--force-reason", "now"]):
        assert "not signed" in out(trained, *command, code=2)
    assert "is signed by ed25519:" in out(trained, "sign", "--key-file", str(key))
    assert "signed by a trusted key" in out(trained, "verify")
    bundle = trained.registry().get_version(MODEL_NAME, "1").model_path
    assert "signed by a trusted key" in out(trained, "verify", "--bundle", str(bundle))
    assert trained.run("validate") == 0
    assert trained.run("promote") == 0
    secret = key.read_text().splitlines()[1]
    captured = capsys.readouterr()
    assert secret not in captured.out + captured.err


def test_missing_key_says_how_to_make_one(trained, out, tmp_path):
    assert "Which key" in out(trained, "sign", code=2)
    said = out(trained, "sign", "--key-file", str(tmp_path / "none"), code=2)
    assert "keys generate" in said


def test_corrupt_files_are_found_by_verify(trained, out):
    for path in (trained.registry_directory / "artifacts").rglob("member.json"):
        path.write_bytes(path.read_bytes().replace(b"lightgbm", b"lightGBM"))
    assert "differs from the manifest" in out(trained, "verify", code=2)


def test_every_threshold_can_be_given_and_switched_off(trained, capsys):
    capsys.readouterr()
    options = [
        "--min-profit-factor",
        "999",
        "--max-calibration-error",
        "off",
        "--min-metric",
        "f1=0",
    ]
    assert trained.run("validate", "--json", *options) == 3
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["profit factor"]["threshold"] == 999
    assert checks["profit factor"]["passed"] is False
    assert "calibration error" not in checks
    assert "min f1" in checks


def test_custom_gate_of_the_configuration_judges(trained, capsys):
    folder = trained.user_data / "gates"
    folder.mkdir()
    (folder / "my_gates.py").write_text(
        "from freqtrade_mlpipe.registry import Check\n"
        "class Never:\n"
        "    def check(self, evidence):\n"
        "        return Check('never', evidence.backtest.n_trades, None, False, 'Not today.')\n"
    )
    trained.configure(gates={"custom": ["my_gates.Never"]})
    capsys.readouterr()
    assert trained.run("validate", "--json") == 3
    report = json.loads(capsys.readouterr().out)
    assert [c["name"] for c in report["checks"] if not c["passed"]] == ["never"]
    assert report["window_uses"] == 1
    trained.configure(gates={"custom": ["my_gates.Nothing"]})
    assert trained.run("validate") == 2
    assert "no class 'Nothing'" in words(capsys.readouterr().err)


def test_reuse_of_the_final_window_is_shown(trained, out):
    assert "judged versions of trend_classifier once" in out(trained, "validate")
    assert "judged versions of trend_classifier 2 times" in out(trained, "validate")


def test_forced_promotion_is_shown_with_its_reason(trained, out, capsys):
    out(trained, "promote", "--force-reason", "gates were wrong")
    capsys.readouterr()
    assert trained.run("history", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["forced"], entry["reason"]) == (True, "gates were wrong")
    said = out(trained, "history")
    assert "forced" in said
    assert "wrong" in said
    assert trained.run("show-model", "--json") == 0
    assert json.loads(capsys.readouterr().out)["forced"] == [entry]
    said = out(trained, "show-model")
    assert re.search(r"Promoted past the gates on .* UTC by .*: gates were wrong", said)
