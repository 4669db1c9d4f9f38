"""A search that is interrupted, killed or out of time goes on where it ended, and ends as if nothing had been."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from freqtrade_mlpipe.exceptions import ConfigError, SearchInterrupted, TrainingError
from freqtrade_mlpipe.tuning import study as study_module
from freqtrade_mlpipe.tuning import tune
from tests.test_tuning import folds_of, make_data, recipe, timeless

N_FOLDS = 3
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def uninterrupted(data):
    return tune(data, folds_of(data, N_FOLDS), recipe(n_trials=9))


@pytest.fixture(params=["journal", "folder", "sqlite"])
def storage(request, tmp_path):
    return {
        "journal": tmp_path / "study.log",
        "folder": tmp_path,
        "sqlite": f"sqlite:///{tmp_path}/s.db",
    }[request.param]


def search(data, n_trials, storage, **more):
    settings = recipe(n_trials=n_trials, **more.pop("settings", {}))
    return tune(data, folds_of(data, N_FOLDS), settings, storage=storage, **more)


@pytest.fixture
def interrupt_at(monkeypatch):
    """Ctrl-C while the fold with this number, counted over all trials, is scored."""

    def install(number):
        real, calls = study_module.score, []

        def score(*arguments):
            calls.append(arguments)
            if len(calls) == number:
                raise KeyboardInterrupt
            return real(*arguments)

        monkeypatch.setattr(study_module, "score", score)

    return install


class TestGoingOn:
    def test_trials_found_in_the_storage_count(self, data, storage):
        first = search(data, 3, storage)
        told = []
        then = search(data, 5, storage, on_progress=lambda *step: told.append(step))
        assert then.trials[:3] == first.trials
        assert len(then.trials) == 5
        assert [done for stage, done, _ in told if stage == "tuning"] == [3, 4, 5]

    def test_a_finished_search_is_only_read(self, data, storage, monkeypatch):
        first = search(data, 3, storage)
        monkeypatch.setattr(study_module, "prepare_fold", None)
        assert search(data, 3, storage) == first

    @pytest.mark.parametrize("fold", [1, 5, 14])
    def test_interrupted_and_gone_on_with_is_as_uninterrupted(
        self, data, tmp_path, uninterrupted, interrupt_at, fold
    ):
        interrupt_at(fold)
        with pytest.raises(SearchInterrupted, match=f"{(fold - 1) // N_FOLDS} of 9 trials"):
            search(data, 9, tmp_path)
        found = search(data, 9, tmp_path)
        assert timeless(found.trials) == timeless(uninterrupted.trials)
        assert found.best_params == uninterrupted.best_params

    def test_interrupted_again_and_again(self, data, tmp_path, uninterrupted, interrupt_at):
        storage = f"sqlite:///{tmp_path}/s.db"
        for fold in (2, 5, 1):
            interrupt_at(fold)
            with pytest.raises(SearchInterrupted):
                search(data, 9, storage)
        assert timeless(search(data, 9, storage).trials) == timeless(uninterrupted.trials)

    def test_out_of_time_goes_on_as_if_it_had_not_been(self, data, tmp_path, uninterrupted):
        for done in (1, 2):
            part = search(data, 9, tmp_path, settings={"timeout_seconds": 1e-6})
            assert len(part.trials) == done
        assert timeless(search(data, 9, tmp_path).trials) == timeless(uninterrupted.trials)

    def test_in_memory_an_interrupt_is_an_interrupt(self, data, interrupt_at):
        interrupt_at(1)
        with pytest.raises(KeyboardInterrupt) as caught:
            search(data, 9, None)
        assert not isinstance(caught.value, SearchInterrupted)

    def test_failed_trials_count_towards_the_budget(self, data, tmp_path):
        hopeless = {"parameters": {"num_leaves": -1}}
        for n_trials in (1, 2):
            with pytest.raises(TrainingError, match=f"None of {n_trials} trials"):
                search(data, n_trials, tmp_path, settings=hopeless)


class TestKilled:
    program = (
        "import sys\n"
        "from tests.test_tuning import folds_of, make_data, recipe\n"
        "from freqtrade_mlpipe.tuning import tune\n"
        "data = make_data()\n"
        "tune(data, folds_of(data, 3), recipe(n_trials=500), storage=sys.argv[1],\n"
        "     on_progress=lambda *step: print(*step, flush=True))"
    )

    def killed(self, journal, seconds_into_a_trial):
        """SIGKILL in the middle of the fifth trial."""
        command = [sys.executable, "-c", self.program, str(journal)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        ) as process:
            for line in process.stdout:
                if line.startswith("tuning 4 "):
                    break
            time.sleep(seconds_into_a_trial)
            process.send_signal(signal.SIGKILL)

    def test_killed_and_gone_on_with_is_as_uninterrupted(self, data, tmp_path, uninterrupted):
        journal = tmp_path / "study.log"
        self.killed(journal, 0.005)
        assert timeless(search(data, 9, journal).trials) == timeless(uninterrupted.trials)

    def test_a_trial_left_running_is_failed_in_the_storage_and_repeated(self, data, tmp_path):
        url = f"sqlite:///{tmp_path}/s.db"
        optuna.create_study(study_name="mlpipe", storage=url).ask()
        found = search(data, 3, url)
        assert [trial.state for trial in found.trials] == ["complete"] * 3
        states = [t.state.name for t in optuna.load_study(study_name="mlpipe", storage=url).trials]
        assert states == ["FAIL", *["COMPLETE"] * 3]

    def test_what_a_killed_process_leaves_behind_is_no_obstacle(self, data, tmp_path):
        journal = tmp_path / "study.log"
        first = search(data, 3, journal)
        with journal.open("ab") as file:
            file.write(b'{"op_code":4,"worker')
        Path(f"{journal}.lock").symlink_to(journal)
        started = time.monotonic()
        assert search(data, 4, journal).trials[:3] == first.trials
        assert time.monotonic() - started < 20

    def test_two_processes_at_one_search_are_told(self, data, tmp_path):
        def meanwhile(*step):
            with pytest.raises(TrainingError, match="Another process"):
                search(data, 2, tmp_path)

        search(data, 1, tmp_path, on_progress=meanwhile)


class TestWhere:
    def test_the_folder_must_exist(self, data, tmp_path):
        with pytest.raises(ConfigError, match="does not exist"):
            search(data, 3, tmp_path / "none" / "study.log")

    def test_a_folder_holds_one_journal_a_study(self, data, tmp_path):
        for name in ("a", "b", "a"):
            search(data, 1, tmp_path, study_name=name)
        assert sorted(path.name for path in tmp_path.glob("*.journal")) == [
            "a.journal",
            "b.journal",
        ]

    def test_name_of_the_study_follows_data_and_settings_but_not_the_budget(self):
        base = recipe().study_name("ab")
        assert recipe(n_trials=99, n_jobs=3, timeout_seconds=5).study_name("ab") == base
        others = [
            recipe().study_name("ac"),
            recipe(random_state=1).study_name("ab"),
            recipe(pruner="none").study_name("ab"),
            recipe(optimization_metrics=["log_loss", "f1"]).study_name("ab"),
            recipe(features={"scale_features": False}).study_name("ab"),
            recipe(cv_folds=4).study_name("ab"),
        ]
        assert len({base, *others}) == 7


def test_another_pruner_changes_which_trials_end_early(data):
    found = {
        name: tune(data, folds_of(data, 5), recipe(n_trials=14, pruner=name)).trials
        for name in ("median", "hyperband", "none")
    }
    states = {name: [trial.state for trial in trials] for name, trials in found.items()}
    assert set(states["none"]) == {"complete"}
    assert "pruned" in states["median"]
    assert "pruned" in states["hyperband"]
    for trial in (*found["median"], *found["hyperband"]):
        assert len(trial.fold_scores["log_loss"]) >= (2 if trial.state == "pruned" else 5)
