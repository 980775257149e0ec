from pathlib import Path

import pytest

from truemask.compose import compose_config, options, override_config, resume_config
from truemask.errors import UsageError


def test_without_anything_the_textures_are_learnt() -> None:
    config = compose_config([])
    assert config["data"]["dataset"]["_target_"].endswith("textures")
    assert config["name"] == "textures/demo"


def test_a_folder_is_data_whatever_characters_it_has(tmp_path: Path) -> None:
    folder = tmp_path / "my photos, a=b [1]"
    config = compose_config(["optimizer.lr=0.5"], folder=folder)
    assert config["data"]["dataset"]["root"] == str(folder)
    assert config["name"] == folder.name
    assert config["optimizer"]["lr"] == 0.5


def test_settings_that_no_file_states_can_be_given() -> None:
    config = compose_config(["model.channels=8", "trainer.max_time=00:00:20:00", "seed=3"])
    assert config["model"]["channels"] == 8
    assert config["trainer"]["max_time"] == "00:00:20:00"
    assert config["seed"] == 3


@pytest.mark.parametrize("name", options("experiment"))
def test_every_experiment_composes(name: str) -> None:
    words = [] if name.startswith("textures/") else ["data.dataset.root=somewhere"]
    assert compose_config([f"experiment={name}", *words])["name"] == name


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (group, name)
        for group in ("model", "loss", "optimizer", "schedule")
        for name in options(group)
    ],
)
def test_every_option_composes_and_is_checked(group: str, name: str) -> None:
    assert compose_config([f"{group}={name}"], folder=Path("x"))[group]["_target_"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["experiment=texture/demo"],
            "no experiment is called 'texture/demo'; did you mean 'textures/demo'?",
        ),
        (["model=unett"], "no model is called 'unett'; did you mean 'unet'?"),
        (["trainer.max_epoch=3"], "trainer has no setting 'max_epoch'; did you mean 'max_epochs'?"),
        (["optimizer.lrr=3"], "optimizer has no setting 'lrr'; did you mean 'lr'?"),
        (["sed=3"], "there is no setting 'sed'; did you mean 'seed'?"),
        (["data.bach_size=3"], "data has no setting 'bach_size'; did you mean 'batch_size'?"),
        (["schedule.warmap=0"], "schedule has no setting 'warmap'; did you mean 'warmup'?"),
        (
            ["trainer.max_epochs=many"],
            "trainer.max_epochs is 'many', but must be a whole number or null",
        ),
        (["trainer.max_epochs=1.5"], "trainer.max_epochs is 1.5"),
        (["data.scale=[a,1]"], "data.scale is ['a', 1], but must be a list of numbers or null"),
        (["data.scale=[1]"], "data.scale must be [LOWEST, HIGHEST], two zooms above 0"),
        (["data.scale=[2,1]"], "data.scale must be [LOWEST, HIGHEST], two zooms above 0"),
        (["data.scale=[0,1]"], "data.scale must be [LOWEST, HIGHEST], two zooms above 0"),
        (["data.scale=[nan,1]"], "data.scale must be [LOWEST, HIGHEST], two zooms above 0"),
        (["data.scale=[1,inf]"], "data.scale must be [LOWEST, HIGHEST], two zooms above 0"),
        (["data.batch_size=0"], "data.batch_size must be at least 1"),
        (["model.channels=wide"], "model.channels is 'wide', but must be a whole number"),
        (["seed=-1"], "seed is -1"),
        (["trainer.precision=half"], "trainer.precision is 'half', but must be one of"),
        (["trainer.max_time=20"], "trainer.max_time is 20"),
        (["loss=nothing"], "no loss is called 'nothing'"),
        (["lr"], "cannot read 'lr'"),
        (
            ["model={_target_: os.nothing}"],
            "model._target_ is 'os.nothing', which cannot be imported",
        ),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        compose_config(words)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_inner_settings_of_the_loss_are_checked() -> None:
    with pytest.raises(UsageError, match=r"data\.augmentation\.color has no setting 'brightnes'"):
        compose_config(["data.augmentation.color.brightnes=0.1"], folder=Path("x"))


def test_an_augmentation_can_be_switched_off() -> None:
    config = compose_config(["data.augmentation.flip=null"], folder=Path("x"))
    assert config["data"]["augmentation"]["flip"] is None


def test_a_run_s_configuration_changes_by_values_only() -> None:
    config = compose_config([])
    changed = override_config(config, ["data.batch_size=7"])
    assert changed["data"]["batch_size"] == 7
    assert "batch_size" not in config["data"]
    for word in ("model=unet", "~model.channels=3", "seed=1,2"):
        with pytest.raises(UsageError):
            override_config(config, [word])


def test_resuming_is_the_same_training() -> None:
    config = compose_config([])
    assert resume_config(config, ["trainer.max_steps=7"])["trainer"]["max_steps"] == 7
    for word in ("optimizer.lr=1", "seed=3", "model.channels=8", "data.batch_size=2"):
        with pytest.raises(UsageError, match="would make it another training"):
            resume_config(config, [word])
    with pytest.raises(UsageError, match="did you mean"):
        resume_config(config, ["trainer.max_step=7"])


def test_resuming_somebody_else_s_run_builds_known_classes_only() -> None:
    config = compose_config([])
    for group in ("model", "loss", "optimizer", "schedule"):
        hostile = {**config, group: {"_target_": "os.system", "command": "true"}}
        with pytest.raises(UsageError, match="not on the list"):
            resume_config(hostile, [])
    known = {**config, "optimizer": {"_target_": "torch.optim.RAdam"}}
    assert resume_config(known, [])["optimizer"] == known["optimizer"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.dataset.root=/my photos (1)"], "cannot read"),
        (["name=it's"], "cannot read"),
        (["data.crop=[1,2"], "cannot read"),
        (["model=null"], ""),
        (["trainer=null"], ""),
        (["~model"], "the configuration has no model"),
        (["runs=null"], "runs is None"),
        (["trainer.accelerator=tpu"], "trainer.accelerator is 'tpu', but must be one of"),
        (["data.num_workers=-1"], "data.num_workers must be 0 or more"),
        (["model={_target_: .net.Net}"], "cannot be imported"),
    ],
)
def test_odd_words_end_in_one_line_too(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        compose_config(words)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_cannot_be_an_augmentation() -> None:
    with pytest.raises(UsageError, match=r"data\.augmentation\.flip must be null"):
        compose_config(["data.augmentation.flip=false"], folder=Path("x"))


def test_precision_is_given_as_it_is_said() -> None:
    for word in ("16", "32", "bf16", "auto"):
        compose_config([f"trainer.precision={word}"])


def test_data_without_a_folder_names_the_run() -> None:
    assert compose_config(["data=textures", "model=texture_cnn"])["name"] == "textures"


def test_the_data_is_given_once() -> None:
    with pytest.raises(UsageError, match="given twice"):
        compose_config(["data.dataset.root=a"], folder=Path("b"))


def test_a_whole_object_replaces_the_one_that_stood_there() -> None:
    words = ["data=oxford_pet", "data.dataset.root=x", "data.split.seed=4"]
    words.append("data.split={_target_: truemask.data.splits.KFold, folds: 4, fold: 1}")
    split = compose_config(words)["data"]["split"]
    assert split == {"_target_": "truemask.data.splits.KFold", "folds": 4, "fold": 1} | (
        {"seed": 4} if "seed" in split else {}
    )
    merged = compose_config(["data=oxford_pet", "data.dataset.root=x", "data.split.seed=4"])
    assert merged["data"]["split"]["shares"] == [0.85, 0.15, 0.0]


def test_a_root_that_reads_as_a_number_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"data\.dataset\.root is 3"):
        compose_config(["data=voc", "data.dataset.root=3"])


def test_a_year_may_be_a_number() -> None:
    config = compose_config(["data=voc", "data.dataset.root=x", "data.dataset.year=2007"])
    assert config["data"]["dataset"]["year"] == 2007
