"""The rules of a plan on closed cases, and its file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console

from truemask.analysis.plan import choose, make_plan
from truemask.analysis.plan_choice import Choice
from truemask.analysis.plan_facts import ClassFacts, Facts
from truemask.analysis.plan_file import to_yaml
from truemask.analysis.plan_machine import Machine, StepCost, measure_step
from truemask.analysis.plan_network import ENOUGH_IMAGES, receptive_field
from truemask.checks.outcome import Outcome
from truemask.cli import main
from truemask.commands import plan as commands_plan
from truemask.compose import compose_config
from truemask.datasets import folder as datasets_folder
from truemask.errors import UsageError
from truemask.models.unet import UNet
from truemask.runs import Run
from truemask.training import fit


def classes(**thickness: float) -> dict[str, ClassFacts]:
    return {
        name: ClassFacts(share=1 / len(thickness), present=1.0, thickness=value)
        for name, value in thickness.items()
    }


STREET = Facts(
    images=367,
    counted=367,
    height=360,
    width=480,
    channels=3,
    photos=True,
    endless=False,
    classes=classes(sky=25, road=120, pole=2.4),
    upside_down=0.75,
    mirrored=0.08,
    edge_ratio=1.3,
    colour=0.27,
)
CRACKS = replace(
    STREET,
    images=70,
    height=320,
    classes={
        "background": ClassFacts(share=0.983, present=1.0, thickness=148),
        "crack": ClassFacts(share=0.017, present=1.0, thickness=2.5),
    },
    upside_down=0.001,
    mirrored=0.0,
    edge_ratio=0.57,
)
COSTS = {
    16: StepCost(bytes=20 << 20, seconds=0.04),
    32: StepCost(bytes=40 << 20, seconds=0.1),
    64: StepCost(bytes=80 << 20, seconds=0.35),
}
MACHINE = Machine(device="cpu", memory=16 << 30, cores=2, costs=COSTS)


def chosen(facts: Facts, *, seconds: float | None = None, machine: Machine = MACHINE) -> dict:
    return {choice.key: choice.value for choice in choose(facts, machine, seconds=seconds)}


def test_a_street_is_mirrored_but_never_turned_upside_down() -> None:
    settings = chosen(STREET)
    assert settings["data.augmentation.flip"]["_target_"].endswith("RandomHorizontalFlip")
    assert settings["data.augmentation.vertical"] is None
    assert "data.augmentation.turn" not in settings


def test_cracks_are_turned_every_way_in_square_crops() -> None:
    settings = chosen(CRACKS)
    assert settings["data.augmentation.turn"]["_target_"].endswith("RandomQuarterTurn")
    height, width = settings["data.crop"]
    assert height == width
    assert height % 32 == 0


def test_edges_of_one_direction_forbid_quarter_turns_and_allow_both_flips() -> None:
    settings = chosen(replace(CRACKS, edge_ratio=5.0))
    assert "data.augmentation.turn" not in settings
    assert settings["data.augmentation.vertical"]["_target_"].endswith("RandomVerticalFlip")


@pytest.mark.parametrize("name", ["left lung", "hand_right", "Left", "leftLung", "lungRight2"])
def test_left_and_right_in_a_name_forbid_the_mirror(name: str) -> None:
    named = {**STREET.classes, name: ClassFacts(share=0.1, present=1.0, thickness=30)}
    assert chosen(replace(STREET, classes=named))["data.augmentation.flip"] is None
    other = {**STREET.classes, "upright": ClassFacts(share=0.1, present=1.0, thickness=30)}
    assert chosen(replace(STREET, classes=other))["data.augmentation.flip"] is not None


def test_a_left_hand_upside_down_is_a_right_one() -> None:
    named = {**CRACKS.classes, "left hand": ClassFacts(share=0.1, present=1.0, thickness=30)}
    settings = chosen(replace(CRACKS, classes=named))
    assert settings["data.augmentation.vertical"] is None
    assert "data.augmentation.turn" not in settings


def test_reasons_tell_nothing_that_cannot_be() -> None:
    def reasons(facts: Facts) -> dict[str, str]:
        return {choice.key: choice.reason for choice in choose(facts, MACHINE)}

    # A class at the image's border has few edges: 2 area / edges may be more than the image.
    small = replace(CRACKS, height=64, width=80, classes=classes(background=133, crack=9))
    assert "the widest class is 64 pixels wide" in reasons(small)["model.widths"]
    huge = replace(CRACKS, height=2000, width=3000, classes=classes(background=4479, car=300))
    assert "the widest class is 256 pixels wide" in reasons(huge)["model.widths"]  # resized
    assert "only not known" not in reasons(replace(STREET, colour=None))["data.augmentation.color"]
    assert "only 3 images" in reasons(replace(STREET, images=3))["data.batch_size"]


def test_thin_structures_are_cropped_and_wide_ones_resized() -> None:
    huge = {"height": 1280, "width": 1920}
    thin = chosen(replace(STREET, **huge))  # type: ignore[arg-type]
    assert "data.resize" not in thin
    assert thin["data.crop"][0] * thin["data.crop"][1] < 100_000
    wide = chosen(replace(STREET, **huge, classes=classes(background=400, car=300)))  # type: ignore[arg-type]
    height, width = wide["data.resize"]
    assert (height, width) == (320, 480)
    assert wide["data.evaluation_size"] == "native"
    assert not {"data.crop", "data.scale", "data.focus"} & wide.keys()


def test_small_images_are_trained_on_whole() -> None:
    small = replace(STREET, height=94, width=120)
    assert chosen(small)["data.crop"] == [94, 120]


def test_crops_of_large_images_are_laid_on_rare_classes() -> None:
    few = {**STREET.classes, "pole": ClassFacts(share=0.004, present=0.9, thickness=2.4)}
    assert "data.focus" not in chosen(replace(STREET, classes=few))  # half of the image sees them
    huge = replace(STREET, classes=few, height=1080, width=1920)
    assert chosen(huge)["data.focus"] == {"pole": 0.333}


def test_colours_change_only_where_they_are_not_the_class() -> None:
    assert chosen(STREET)["data.augmentation.color"]["_target_"].endswith("ColorJitter")
    assert chosen(replace(STREET, colour=0.95))["data.augmentation.color"] is None
    assert chosen(replace(STREET, photos=False, channels=4))["data.augmentation.color"] is None


def test_what_is_generated_anew_is_not_augmented() -> None:
    textures = replace(CRACKS, endless=True, photos=False, channels=1, height=128, width=128)
    settings = chosen(textures)
    assert settings["data.augmentation"] is None
    assert settings["data.crop"] is None


def test_more_time_never_makes_a_narrower_network() -> None:
    first = [chosen(STREET, seconds=10.0**n)["model.widths"][0] for n in range(1, 7)]
    assert first == sorted(first)
    assert first[0] == 16
    assert first[-1] == 64


def test_without_a_time_no_measured_speed_counts() -> None:
    slow = {w: StepCost(bytes=c.bytes, seconds=100.0) for w, c in COSTS.items()}
    for facts in (STREET, CRACKS):
        assert chosen(facts, machine=replace(MACHINE, costs=slow)) == chosen(facts)


def test_few_steps_ask_for_small_batches_and_memory_bounds_them() -> None:
    assert chosen(STREET, seconds=60)["data.batch_size"] < 8
    assert chosen(STREET, seconds=ENOUGH_IMAGES[64])["data.batch_size"] == 8
    tight = replace(MACHINE, memory=4 * 2 * COSTS[32].bytes)
    assert chosen(STREET, machine=tight)["data.batch_size"] == 2
    assert chosen(replace(STREET, images=3))["data.batch_size"] == 3


@pytest.mark.parametrize(("levels", "downscale"), [(2, 1), (3, 1), (3, 2), (4, 1)])
def test_the_receptive_field_is_what_a_gradient_reaches(levels: int, downscale: int) -> None:
    torch.manual_seed(0)
    side = 16 * receptive_field(levels, downscale) // 16 * 2
    network = UNet(
        in_channels=1, out_channels=1, widths=[1] * levels, downscale=downscale,
        normalization="none",
    )  # fmt: skip
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.ones_(module.weight)
    side = network.input_size(side, side)[0]
    reached = 0
    for place in range(side // 2, side // 2 + 2**levels * downscale):
        image = torch.zeros(1, 1, side, side, requires_grad=True)
        network(image + 1)[0, 0, place, place].backward()
        assert image.grad is not None
        rows = image.grad[0, 0].abs().sum(1).nonzero()
        reached = max(reached, int(rows.max() - rows.min()) + 1)
    # Max-pooling hands the gradient to one of equal pixels, so that single ones may be missing.
    assert reached == pytest.approx(receptive_field(levels, downscale), rel=0.12)


def test_the_levels_follow_the_structures_and_the_crop() -> None:
    assert len(chosen(STREET)["model.widths"]) == 5
    small = replace(STREET, height=80, width=80)
    fine = replace(small, classes=classes(a=12, b=14, c=2))
    assert len(chosen(fine)["model.widths"]) == 3
    assert len(chosen(replace(small, classes=classes(a=50, b=14)))["model.widths"]) == 4
    tiny = replace(STREET, height=32, width=32)
    assert len(chosen(tiny)["model.widths"]) == 3


def test_weights_follow_the_imbalance() -> None:
    even, uneven = chosen(STREET)["loss.losses"], chosen(CRACKS)["loss.losses"]
    assert "weight" not in even[0]
    assert uneven[0]["weight"] == "inverse_sqrt"


def test_nineteen_classes_and_one_that_never_occurs() -> None:
    many = {
        f"class {k}": ClassFacts(share=0.0 if k == 18 else 2.0**-k, present=1.0, thickness=None)
        for k in range(19)
    }
    settings = chosen(replace(STREET, classes=many, height=1024, width=2048))
    assert "class 18" not in settings["data.focus"]
    assert sum(settings["data.focus"].values()) == pytest.approx(1 / 3, abs=0.01)


def test_every_choice_has_a_reason_with_a_figure() -> None:
    for facts in (STREET, CRACKS):
        for choice in choose(facts, MACHINE, seconds=240.0):
            assert len(choice.reason) > 20
            assert any(letter.isdigit() for letter in choice.reason), choice


def test_the_bytes_of_a_step_grow_with_width_and_pixels() -> None:
    def kept(widths: list[int], crop: tuple[int, int]) -> int:
        return measure_step(
            widths, downscale=1, channels=3, logits=2, crop=crop, accelerator="cpu", timed=False
        ).bytes

    small = kept([4, 8], (32, 32))
    # Every tensor but the weights is proportional to the pixels.
    assert kept([4, 8], (64, 64)) == pytest.approx(4 * small, rel=0.05)
    assert kept([8, 16], (32, 32)) > 1.5 * small


def test_measuring_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    cost = measure_step(
        [4, 8], downscale=2, channels=1, logits=1, crop=(16, 16), accelerator="cpu", timed=True
    )
    assert cost.seconds is not None
    assert cost.seconds > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_the_file_holds_the_values_whatever_a_reason_says() -> None:
    choices = [
        Choice(key="data.crop", value=[2, 3], reason="a name with\nmodel: {a: 1} in it"),
        Choice(key="data.focus", value={"a: b #c": 0.5, "ö": 0.1}, reason="x" * 150),
        Choice(key="model.widths", value=[8, 16], reason="b"),
    ]
    dataset = {"_target_": "truemask.datasets.textures.textures", "size": 32}
    text = to_yaml(choices, heading="h", data={"dataset": dataset, "split": None})
    assert yaml.safe_load(text) == {
        "defaults": [{"override /data": "textures"}],
        "data": {"dataset": dataset, "crop": [2, 3], "focus": {"a: b #c": 0.5, "ö": 0.1}},
        "model": {"widths": [8, 16]},
    }


def write_photos(folder: Path, count: int = 12) -> Path:
    """Photos whose upper half is one class, noise in all channels."""
    random = np.random.default_rng(0)
    for part, images in (("train", count), ("val", 4)):
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True)
        for i in range(images):
            mask = np.zeros((40, 48), np.uint8)
            mask[20:] = 1
            image = random.integers(0, 200, (40, 48, 3)) + 55 * mask[..., None]
            Image.fromarray(image.astype(np.uint8)).save(folder / part / "images" / f"{i}.png")
            Image.fromarray(mask).save(folder / part / "masks" / f"{i}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


def test_the_plan_is_an_experiment_and_words_override_it(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    assert main(["plan", str(photos), "--out", str(file)]) == 0
    config = compose_config([f"experiment={file}"])
    assert config["data"]["dataset"]["root"] == str(photos)
    assert config["data"]["batch_size"] == 4
    assert config["name"] == "photos"
    config = compose_config(
        [f"experiment={file}", "data.batch_size=2", "model=texture_cnn", "optimizer.lr=0.5"],
        folder=photos,
    )
    assert config["data"]["batch_size"] == 2
    assert config["model"] == {"_target_": "truemask.models.texture_cnn.TextureCNN"}
    assert config["optimizer"]["lr"] == 0.5


def test_the_same_data_gives_the_same_plan(photos: Path) -> None:
    config = compose_config([], folder=photos)
    assert make_plan(config).text == make_plan(config).text


@pytest.mark.parametrize(
    ("word", "keys"),
    [
        ("data.resize=[32,32]", {"data.crop", "data.resize", "data.evaluation_size"}),
        ("data.crop=[16,16]", {"data.crop", "data.resize"}),
        ("model.widths=[4,8]", {"model.widths"}),
        ("loss=dice", {"loss.losses"}),
        ("data.augmentation=null", {"data.augmentation.flip", "data.augmentation.color"}),
        ("data.batch_size=3", {"data.batch_size"}),
    ],
)
def test_nothing_is_chosen_that_the_user_says(photos: Path, word: str, keys: set[str]) -> None:
    config = compose_config([word], folder=photos)
    plan = make_plan(config, words=[word])
    assert not keys & {choice.key for choice in plan.choices}
    assert compose_config([word], folder=photos, experiment=plan.experiment)


def test_json_is_all_that_is_printed(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(photos), "--json", "--time", "0:10"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert plan["time"] == "0:10"
    assert plan["facts"]["images"] == 12
    assert yaml.safe_load(plan["yaml"])["trainer"]["max_time"] == "0:10"
    assert {choice["key"] for choice in plan["choices"]} >= {"data.batch_size", "model.widths"}


def test_generated_textures_need_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "data=textures", "data.dataset.size=32"]) == 0
    planned = yaml.safe_load(capsys.readouterr().out)
    assert planned["defaults"] == [{"override /data": "textures"}]
    assert compose_config([], experiment=planned)["data"]["augmentation"] is None


def test_an_experiment_gives_its_data(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["experiment=textures/adam", "data.dataset.size=32", "data.dataset.train=20"]
    assert main(["plan", *words]) == 0
    planned = yaml.safe_load(capsys.readouterr().out)
    assert planned["data"]["dataset"]["train"] == 20
    assert planned["model"]["widths"]  # of the U-Net, as the plan's


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give what to plan for"),
        (["nowhere"], "nowhere"),
        (["data=textures", "--out", "plan.txt"], "ends in .yaml"),
        (["data=textures", "--time", "soon"], "MM:SS"),
        (["experiment=missing.yaml"], "missing.yaml"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_an_edited_plan_is_not_overwritten(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data: {}\n")
    assert main(["plan", str(photos), "--out", str(file)]) == 2
    assert file.read_text() == "data: {}\n"


@pytest.mark.parametrize("images", [1, 2, 3])
def test_data_that_no_training_takes_have_no_plan(
    images: int, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos / "train"
    for kind in ("images", "masks"):
        for file in sorted((folder / kind).iterdir())[images:]:
            file.unlink()
    file = tmp_path / "plan.yaml"
    code = main(["plan", str(folder), "--out", str(file)])
    said = capsys.readouterr().err
    words = ["train", str(folder), *SMALL, f"runs={tmp_path / 'runs'}"]
    assert main([*words, f"experiment={file}"] if file.exists() else [*words, "plan=false"]) == code
    if images == 3:
        assert (code, file.exists()) == (0, True)
    else:
        assert (code, file.exists()) == (2, False)
        assert "too small to be split into parts" in said
        assert said.count("\n") == 1
        assert said == capsys.readouterr().err


def test_data_without_images_to_validate_with_have_no_plan(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", str(photos / "train"), "data.dataset.split=[1,0,0]"]
    assert main(words) == 2
    assert "no validation images, and every training needs some" in capsys.readouterr().err
    assert main([*words, "data.split={_target_: truemask.data.splits.Ratio}"]) == 0


SMALL = ["trainer.max_epochs=1", "model.widths=[4,8]", "checks.enabled=false"]


def test_train_on_a_folder_leaves_its_plan_in_the_run(photos: Path, tmp_path: Path) -> None:
    assert main(["train", str(photos), *SMALL, f"runs={tmp_path / 'runs'}"]) == 0
    run = Run.open(next((tmp_path / "runs" / "photos").iterdir()))
    plan = yaml.safe_load(run.plan_path.read_text())
    assert plan["data"]["batch_size"] == run.config["data"]["batch_size"] == 4
    assert run.config["model"]["widths"] == [4, 8]
    assert "plan" not in run.config
    assert main(["train", f"resume={run.path}", "trainer.max_epochs=2"]) == 0
    assert [row["epoch"] for row in run.history] == ["0", "1"]


@pytest.mark.parametrize("word", ["plan=false", "plan=null"])
def test_the_fixed_default_is_there_for_the_asking(photos: Path, tmp_path: Path, word: str) -> None:
    assert main(["train", str(photos), *SMALL, word, f"runs={tmp_path / 'runs'}"]) == 0
    run = Run.open(next((tmp_path / "runs" / "photos").iterdir()))
    assert not run.plan_path.exists()
    assert run.config["data"]["batch_size"] == 8


def test_a_plan_is_a_file_not_a_word(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(photos), "plan=mine.yaml"]) == 2
    assert "experiment=FILE.yaml" in capsys.readouterr().err
    assert main(["train", "-m", str(photos), "plan=true", "seed=1,2"]) == 2
    assert "without -m" in capsys.readouterr().err
    assert compose_config(["plan=false"], folder=photos) == compose_config([], folder=photos)


def test_an_experiment_s_file_may_write_numbers_as_hydra_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("defaults:\n  - override /data: textures\noptimizer:\n  lr: 1e-4\n")
    assert compose_config([f"experiment={file}"])["optimizer"]["lr"] == 1e-4
    file.write_text("- a\n")
    with pytest.raises(UsageError, match="mapping"):
        compose_config([f"experiment={file}"])
    for empty in ("", "# to be written\n", "{}\n"):
        file.write_text(empty)
        with pytest.raises(UsageError, match="holds no setting"):
            compose_config([f"experiment={file}"])
    file.write_text("a: [\n")
    with pytest.raises(UsageError, match="plain YAML"):
        compose_config([f"experiment={file}"])
    with pytest.raises(UsageError, match="one experiment"):
        compose_config([f"experiment={file}", "experiment=other.yaml"])


def test_focus_names_classes_of_the_data(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(photos), *SMALL, "plan=false", f"runs={tmp_path / 'runs'}"]
    assert main([*words, "data.crop=[16,16]", "data.focus.foregrund=0.5"]) == 2
    assert "did you mean 'foreground'" in capsys.readouterr().err
    assert main([*words, "data.focus.foreground=1.5"]) == 2
    assert "at most 1" in capsys.readouterr().err
    assert main([*words, "data.crop=[16,16]", "data.focus.foreground=0.5"]) == 0


def test_check_looks_at_what_train_would_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def keep(config: dict[str, Any], **_: Any) -> Outcome:
        seen.update(config)
        return Outcome()

    monkeypatch.setattr(fit, "check", keep)
    assert main(["check", str(photos), "data.batch_size=3"]) == 0
    planned, config = commands_plan.planned(
        ["data.batch_size=3"], folder=photos, console=Console(quiet=True)
    )
    assert seen == config
    assert seen["loss"] != compose_config(["data.batch_size=3"], folder=photos)["loss"]
    assert planned.choices


@pytest.mark.parametrize("command", ["train", "check"])
def test_the_data_are_opened_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    opened: list[Any] = []
    find = datasets_folder.find_pairs

    def counting(*args: Any, **kwargs: Any) -> Any:
        opened.append(args)
        return find(*args, **kwargs)

    monkeypatch.setattr(datasets_folder, "find_pairs", counting)
    words = [*SMALL[:2], f"runs={tmp_path / 'runs'}"]
    assert main([command, str(photos), *words, "checks.stop=false"]) in (0, 1)
    assert len(opened) == 1


def test_a_class_that_never_occurs_is_named_with_what_follows(
    photos: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (photos / "classes.json").write_text(json.dumps(["background", "crack", "dragon"]))
    file = tmp_path / "plan.yaml"
    assert main(["plan", str(photos), "--out", str(file)]) == 0
    said = capsys.readouterr().err
    assert "! dragon never occurs" in said
    assert "# ! dragon never occurs" in file.read_text()
    assert compose_config([f"experiment={file}"], folder=photos)
