"""Which runs are the training that is asked for, and which only look like it."""

import pytest

from truemask.analysis.matching import difference, is_complete, training_images
from truemask.compose import compose_config


def asked(*words: str, experiment: str = "textures/demo"):
    return compose_config([f"experiment={experiment}", *words])


def test_the_same_words_are_the_same_training(make_run):
    assert difference(asked(), make_run()) is None
    words = ("optimizer.lr=0.5", "loss=cross_entropy", "seed=3")
    assert difference(asked(*words), make_run(*words)) is None


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optimizer.lr=0.02", "optimizer.lr is 0.01, not 0.02"),
        ("seed=1", "seed is 0, not 1"),
        ("trainer.max_steps=999", "trainer.max_steps is 1000, not 999"),
        ("trainer.patience=null", "trainer.patience is 30, not None"),
        ("data.dataset.sigma1=0.3", "data.dataset.sigma1 is not given, not 0.3"),
        ("model.shared_batch_norm=true", "model.shared_batch_norm is not given, not True"),
        ("loss=dice", "loss._target_ is 'truemask.losses.CrossEntropy', "),
    ],
)
def test_one_setting_makes_it_another_training(make_run, word, said):
    assert difference(asked(word), make_run()).startswith(said)


def test_a_setting_of_the_run_that_was_not_asked_for_is_told(make_run):
    told = difference(asked(), make_run("model.shared_batch_norm=true"))
    assert told == "model.shared_batch_norm is True, not not given" or "shared" in told


@pytest.mark.parametrize("word", ["data.num_workers=7", "data.cache=9", "trainer.accelerator=cpu"])
def test_what_changes_no_step_may_differ(make_run, word):
    assert difference(asked(word), make_run()) is None


def test_what_a_training_settles_by_itself_may_differ(make_run):
    run = make_run("data.crop=auto", "loss.weight=inverse_sqrt")
    config = run.config
    config["data"]["crop"] = [16, 16]
    config["loss"] = {**config["loss"], "weight": [0.7, 1.3], "ignore_index": 200}
    run.write_config(config)
    assert difference(asked("data.crop=auto", "loss.weight=inverse_sqrt"), run) is None
    told = difference(asked("data.crop=auto", "loss.weight=[1.0,1.0]"), run)
    assert told == "loss.weight is [0.7, 1.3], not [1.0, 1.0]"
    assert difference(asked("data.crop=[8,8]", "loss.weight=inverse_sqrt"), run) is not None


def test_classes_kept_by_number_may_have_names_in_the_run(make_run):
    run = make_run()
    config = run.config
    config["data"]["labels"] = {"keep": ["road", "car"]}
    run.write_config(config)
    wanted = asked()
    wanted["data"]["labels"] = {"keep": 2, "void": None}
    assert difference(wanted, run) is None
    wanted["data"]["labels"] = {"keep": 3}
    assert difference(wanted, run) == "data.labels.keep is ['road', 'car'], not 3"


def test_a_batch_may_be_lowered_to_the_training_part_only(make_run):
    run = make_run("data.batch_size=5", images=5)
    assert training_images(run) == 5
    assert difference(asked("data.batch_size=8"), run) is None
    assert difference(asked("data.batch_size=4"), run) is not None
    assert difference(asked("data.batch_size=8"), make_run("data.batch_size=5")) is not None


def test_the_folder_of_the_data_counts_unless_it_is_elsewhere(make_run, tmp_path):
    run = make_run()
    config = run.config
    config["data"]["dataset"]["root"] = "/there"
    run.write_config(config)
    wanted = asked()
    wanted["data"]["dataset"]["root"] = "/here"
    assert difference(wanted, run) == "data.dataset.root is '/there', not '/here'"
    assert difference(wanted, run, any_folder=True) is None


def test_a_stopped_run_is_not_complete_though_it_has_results(make_run):
    assert is_complete(make_run())
    assert not is_complete(make_run(stopped="you stopped it"))
    assert not is_complete(make_run(finished=False))


def test_a_run_that_says_nothing_of_itself_is_read_all_the_same(make_run):
    run = make_run()
    (run.path / "environment.json").write_text("{}")
    assert is_complete(run)
    assert training_images(run) is None
