"""Gates of the user's own: found, asked, and never a way around the others."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from freqtrade_mlpipe.config import GateConfig
from freqtrade_mlpipe.exceptions import ConfigError
from freqtrade_mlpipe.registry import GateReport, ModelRegistry, load_custom_gates, run_gates
from freqtrade_mlpipe.registry.gates import GATES
from tests.registry.conftest import NOW, Written
from tests.registry.test_gates import backtest, good

NAME = "trend_classifier"
HEAD = "from freqtrade_mlpipe.registry import Check\n"


def module(folder: Path, body: str, name: str = "my_gates") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(HEAD + dedent(body))
    return folder


def report_of(folder: Path, *names: str) -> GateReport:
    config = GateConfig(custom=names)
    gates = load_custom_gates(config.custom, folder)
    return run_gates(good(), config, NOW, gates=(*GATES, *gates))


def gate(body: str) -> str:
    indented = "\n".join(f"        {line}" for line in dedent(body).strip().splitlines())
    return f"class Mine:\n    def check(self, evidence):\n{indented}\n"


def test_documented_gate_judges_beside_the_others(tmp_path: Path) -> None:
    body = """
        class MinHitRate:
            def check(self, evidence):
                value = evidence.metrics.get("f1")
                passed = value is not None and value >= 0.55
                return Check("hit rate", value, 0.55, passed, "Wins more often than it loses.")
    """
    report = report_of(module(tmp_path, body), "my_gates.MinHitRate")
    assert report.passed
    assert report.checks[-1].name == "hit rate"
    assert GateReport.from_dict(report.to_dict()) == report
    assert len(report.checks) == len(report_of(tmp_path).checks) + 1


def test_several_checks_and_importable_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = gate('return [Check("a", None, None, True, "."), Check("b", 1.0, 2.0, False, ".")]')
    module(tmp_path / "elsewhere", body, "gates_elsewhere")
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    report = report_of(tmp_path, "gates_elsewhere.Mine")
    assert [check.name for check in report.failures] == ["b"]
    assert "my_gates" not in sys.modules


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('no data')", "RuntimeError: no data"),
        ("return None", "NoneType instead of checks"),
        ("return True", "bool instead of checks"),
        ("return []", "list instead of checks"),
        ("return [True]", "bool instead of a check"),
        ("return Check('x', None, None, 'yes', '.')", "not True or False"),
        ("return Check('x', 'high', None, True, '.')", "not a number"),
        ("return Check('x', float('nan'), 1.0, True, '.')", "not a number"),
        ("evidence.metrics['f1'].nothing", "AttributeError"),
    ],
)
def test_gate_that_cannot_judge_refuses(tmp_path: Path, body: str, said: str) -> None:
    report = report_of(module(tmp_path, gate(body)), "my_gates.Mine")
    (failure,) = report.failures
    assert said in failure.sentence
    assert not report.passed


def test_verdict_of_numpy_survives_being_stored(tmp_path: Path) -> None:
    body = "import numpy as np\n" + gate("return Check('x', 1.0, None, np.bool_(True), '.')")
    report = report_of(module(tmp_path, body), "my_gates.Mine")
    assert GateReport.from_dict(report.to_dict()).passed


@pytest.mark.parametrize(
    ("body", "name", "said"),
    [
        ("", "my_gates.Missing", "no class 'Missing'"),
        ("x = 1", "other_gates.Mine", "cannot find other_gates.Mine"),
        ("import no_such_module_at_all", "my_gates.Mine", "no_such_module_at_all"),
        ("1/0", "my_gates.Mine", "ZeroDivisionError"),
        ("class Mine:\n    pass", "my_gates.Mine", "no method `check"),
        ("class Mine:\n    def __init__(self, x): pass", "my_gates.Mine", "without arguments"),
        ("def Mine(): pass", "my_gates.Mine", "no class 'Mine'"),
        ("class Mine(:", "my_gates.Mine", "SyntaxError"),
    ],
)
def test_gate_that_cannot_be_loaded_is_named(
    tmp_path: Path, body: str, name: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=r"gates\.custom") as caught:
        report_of(module(tmp_path, body), name)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["Mine", "../x.Mine", "my gates.Mine", "a..b", ".Mine"])
def test_name_that_is_no_module_and_class_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="custom"):
        GateConfig(custom=[name])


def test_refusal_of_a_custom_gate_stops_the_promotion(
    registry: ModelRegistry, bundle: Written, tmp_path: Path
) -> None:
    registry.register_model(model_name=NAME, model_path=bundle.path)
    folder = module(tmp_path / "gates", gate("return Check('mine', 0.0, 1.0, False, 'No.')"))
    gates = load_custom_gates(("my_gates.Mine",), folder)
    alone = replace(good(), champion=None, champion_version=None)
    report = registry.validate_with_evidence(NAME, 1, alone, custom_gates=gates)
    assert [check.name for check in report.failures] == ["mine"]
    stored = registry.get_version(NAME, 1).report
    assert stored == report
    assert registry.validate_with_evidence(NAME, 1, alone).passed


def test_uses_of_a_window_are_counted_over_all_versions_of_a_model(
    registry: ModelRegistry, variants: tuple[Written, ...]
) -> None:
    for bundle in variants[:3]:
        registry.register_model(model_name=NAME, model_path=bundle.path)
    registry.register_model(model_name="other", model_path=variants[3].path)
    alone = replace(good(), champion=None, champion_version=None)
    start, end = alone.backtest.start, alone.backtest.end  # type: ignore[union-attr]
    span = end - start  # type: ignore[operator]

    def uses(name: str, version: int, moved: float = 0.0) -> int | None:
        window = backtest(start=start + moved * span, end=end + moved * span)
        evidence = replace(alone, backtest=window)
        return registry.validate_with_evidence(name, version, evidence).window_uses

    assert uses(NAME, 1) == 1
    assert uses(NAME, 1) == 2
    assert uses(NAME, 2) == 3
    assert uses(NAME, 2, moved=0.5) == 4, "a part of the window was used before"
    assert uses(NAME, 2, moved=3.0) == 1, "new candles are a new window"
    assert uses("other", 1) == 1
    registry.delete_model(NAME, 2)
    assert uses(NAME, 3) == 5, "deleting a version does not give the window back"


def test_window_used_too_often_is_refused(registry: ModelRegistry, bundle: Written) -> None:
    registry.register_model(model_name=NAME, model_path=bundle.path)
    alone = replace(good(), champion=None, champion_version=None)
    config = GateConfig(max_window_uses=2)
    verdicts = [registry.validate_with_evidence(NAME, 1, alone, config).passed for _ in range(3)]
    assert verdicts == [True, True, False]
    report = registry.get_version(NAME, 1).report
    assert report is not None
    (failure,) = report.failures
    assert (failure.name, failure.value, failure.threshold) == ("window reuse", 3.0, 2.0)
