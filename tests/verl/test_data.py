import json

import pytest
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset

from gym_adapters.verl.__main__ import main
from gym_adapters.verl.rows import gym_row
from tests.verl.environments import Adder, Dialog, Echo

SPECS = [f"tests.verl.environments:{env.__name__}" for env in (Adder, Echo)]


def written(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_splits_of_several_environments_share_no_task(tmp_path, capsys):
    assert main(["data", *SPECS, "--train", "5", "--val", "2", "--out", str(tmp_path)]) == 0

    train, val = (written(tmp_path / f"{split}.jsonl") for split in ("train", "val"))
    ids = [[gym_row(row["extra_info"]).task.id for row in rows] for rows in (train, val)]
    assert (len(train), len(val)) == (10, 4)
    assert not set(ids[0]) & set(ids[1])
    assert {row["extra_info"]["split"] for row in val} == {"val"}
    assert [row["data_source"] for row in val] == ["gym/Adder"] * 2 + ["gym/Echo"] * 2
    assert gym_row(train[0]["extra_info"]).task == Adder.tasks[0]
    assert "Adder: 7 of 7 tasks" in capsys.readouterr().err


def test_all_rows_of_a_run_name_the_components_of_all_environments(tmp_path):
    main(["data", *SPECS, "--train", "1", "--val", "1", "--out", str(tmp_path), "--components", "rare"])

    sources = [gym_row(row["extra_info"]).source for row in written(tmp_path / "train.jsonl")]
    assert [source.components for source in sources] == [["rare", "calls", "length", "reward"]] * 2


@pytest.mark.parametrize("form", [[], ["--parquet"]])
def test_verls_dataset_reads_the_files(tmp_path, tokenizer, form):
    spec = f"tests.verl.environments:{Dialog.__name__}"
    main(["data", *SPECS, "--train", "3", "--val", "1", "--out", str(tmp_path / "a"), *form])
    main(["data", spec, "--train", "1", "--val", "0", "--out", str(tmp_path / "b"), *form])
    files = [str(next((tmp_path / name).glob("train.*"))) for name in ("a", "b")]
    config = OmegaConf.create({"filter_overlong_prompts": True, "max_prompt_length": 100})
    dataset = RLHFDataset(files, tokenizer, config)

    assert len(dataset) == 7
    assert dataset[0]["raw_prompt"] == Adder.tasks[0].prompt
    assert gym_row(dataset[4]["extra_info"]).task == Echo.tasks[1]
    assert gym_row(dataset[6]["extra_info"]).task == Dialog.tasks[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([SPECS[0], "--train", "7", "--val", "2"], "'Adder' has 8 tasks, expected 9: lower --train or --val"),
        (["tests.verl.environments:Nobody", "--train", "1", "--val", "1"], "has no 'Nobody'"),
        ([SPECS[0], "--train", "0", "--val", "1"], "--train must be at least 1, not 0"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, arguments, sentence):
    assert main(["data", *arguments, "--out", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err
