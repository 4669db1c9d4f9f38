"""What `init` writes, what the repository shows at its top level and what the package carries are the same files."""

from __future__ import annotations

import ast
import json
from importlib.resources import files
from pathlib import Path

import pytest

from freqtrade_mlpipe.commands.setup import TEMPLATES, template_text
from freqtrade_mlpipe.config import MLPipeConfig
from freqtrade_mlpipe.main import main

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {
    "user_data/strategies/MLStrategy.py": "MLStrategy.py",
    "user_data/strategies/MLFreqaiStrategy.py": "MLFreqaiStrategy.py",
    "user_data/freqaimodels/MLPipeClassifier.py": "MLPipeClassifier.py",
    "user_data/freqaimodels/MLPipeRegressor.py": "MLPipeRegressor.py",
    "user_data/freqai.json": "freqai.json",
    "user_data/replay.json": "replay.json",
    "config.json": "config.json",
}


@pytest.fixture(autouse=True)
def _logging(restore_logging):
    """Nothing but the fixture asked for."""


@pytest.mark.parametrize("path, template", TOP_LEVEL.items())
def test_file_at_the_top_level_is_the_packaged_one(path, template):
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("not a source checkout")
    assert (ROOT / path).read_text(encoding="utf-8") == template_text(template)


@pytest.mark.parametrize(
    "path",
    [*(f"templates/{name}" for name in TEMPLATES.values()), "reports/report.html.j2", "py.typed"],
)
def test_package_carries_the_file(path):
    assert files("freqtrade_mlpipe").joinpath(*path.split("/")).is_file()


def test_wheel_takes_the_whole_package_folder():
    import tomllib

    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("not a source checkout")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["freqtrade_mlpipe"]}


def test_block_of_the_template_is_valid_and_says_the_defaults():
    block = json.loads(template_text("config.json"))["mlpipe"]
    given, default = MLPipeConfig(**block), MLPipeConfig()
    for section, values in block.items():
        if isinstance(values, dict):
            for key in values:
                assert getattr(getattr(given, section), key) == getattr(
                    getattr(default, section), key
                )


def test_strategy_names_its_own_class_as_the_resolvers_demand():
    """freqtrade finds classes defined in the file that derive, by their text, from IStrategy."""
    tree = ast.parse(template_text("MLStrategy.py"))
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert found.name == "MLStrategy"
    assert [base.id for base in found.bases if isinstance(base, ast.Name)] == [
        "MLPipeMixin",
        "IStrategy",
    ]


class TestInit:
    def test_it_writes_every_template_into_a_freqtrade_user_directory(self, tmp_path, capsys):
        assert main(["init", "--userdir", str(tmp_path / "new")]) == 0
        out = capsys.readouterr().out
        for path, template in TEMPLATES.items():
            written = tmp_path / "new" / path
            assert written.read_text(encoding="utf-8") == template_text(template)
            assert f"wrote {written}" in out
        assert (tmp_path / "new" / "data").is_dir()
        assert "freqtrade-mlpipe train" in out

    def test_existing_files_are_kept_and_missing_ones_written(self, tmp_path, capsys):
        own = tmp_path / "config.json"
        own.write_text('{"mine": true}')
        assert main(["init", "--userdir", str(tmp_path)]) == 0
        assert own.read_text() == '{"mine": true}'
        assert (tmp_path / "strategies" / "MLStrategy.py").is_file()
        out = capsys.readouterr().out
        assert f"kept {own}" in " ".join(out.split())

    def test_second_init_changes_nothing(self, tmp_path):
        assert main(["init", "--userdir", str(tmp_path)]) == 0
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        assert main(["init", "--userdir", str(tmp_path)]) == 0
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before

    def test_without_a_directory_it_is_user_data_below_the_current_one(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert main(["init"]) == 0
        assert (tmp_path / "user_data" / "config.json").is_file()

    def test_directory_that_is_a_file_is_refused(self, tmp_path, capsys):
        (tmp_path / "taken").write_text("")
        assert main(["init", "--userdir", str(tmp_path / "taken")]) == 2
        assert "taken" in capsys.readouterr().err

    @pytest.mark.e2e
    def test_freqtrade_finds_the_strategy_it_wrote(self, tmp_path):
        from freqtrade.resolvers import StrategyResolver

        assert main(["init", "--userdir", str(tmp_path)]) == 0
        found = StrategyResolver.search_all_objects(
            {"user_data_dir": tmp_path, "strategy_path": None}, enum_failed=True
        )
        assert sorted(item["name"] for item in found) == ["MLFreqaiStrategy", "MLStrategy"]

    @pytest.mark.e2e
    def test_configuration_it_wrote_passes_freqtrades_validation(self, tmp_path):
        from freqtrade.configuration import setup_utils_configuration
        from freqtrade.enums import RunMode

        from freqtrade_mlpipe.replay import register

        assert main(["init", "--userdir", str(tmp_path)]) == 0
        register()
        paths = [str(tmp_path / name) for name in ("config.json", "replay.json")]
        for config in (paths[:1], paths):
            arguments = {"config": config, "user_data_dir": str(tmp_path)}
            found = setup_utils_configuration(arguments, RunMode.BACKTEST)
            assert MLPipeConfig.from_freqtrade(found).model_name == "trend_classifier"
        assert found["exchange"]["name"] == "replay"
        assert found["exchange"]["pair_whitelist"]
