import pytest

from privoxel.config import (
    PartitionConfig,
    RunConfig,
    load_config,
    parse_config,
    partition_config,
    with_memory,
)
from privoxel.errors import ConfigError


def test_defaults_are_the_papers_training():
    training = RunConfig().training
    assert (training.epochs, training.batch_size, training.learning_rate, training.weight_decay) == (
        100,
        8,
        1e-4,
        1e-4,
    )


def test_all_faults_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_config({"seed": "x", "training": {"epochs": 0, "epoch": 3}, "colour": 1})
    message = str(caught.value)
    for key in ("seed", "training.epochs", "training.epoch:", "colour"):
        assert key in message


def test_the_same_model_twice_is_refused():
    with pytest.raises(ConfigError, match="distinct names"):
        parse_config({"models": [{"name": "cnn3d"}, {"name": "cnn3d"}]})


def test_toml_and_yaml_say_the_same(tmp_path):
    (tmp_path / "a.toml").write_text("seed = 3\n[training]\nepochs = 2\n")
    (tmp_path / "a.yaml").write_text("seed: 3\ntraining:\n  epochs: 2\n")
    assert load_config(tmp_path / "a.toml") == load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "seed = ", "valid TOML"),
        ("a.yaml", "seed: [", "valid YAML"),
        ("a.yml", "- 1", "sections of settings"),
    ],
)
def test_unreadable_files_are_explained(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / name)


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(ConfigError, match="readable TOML or YAML"):
        load_config(tmp_path / "none.toml")


def test_settings_survive_a_round_trip():
    config = parse_config({"seed": 3, "cohort": {"where": {"site": ["A", "B"]}}})
    assert parse_config(config.to_dict()) == config
    assert config != RunConfig()


def test_the_memory_of_signals_is_read_in_binary_units_and_checked():
    assert with_memory(RunConfig(), "1.5GiB").signals.memory_bytes == 3 * 2**29
    assert with_memory(RunConfig(), "512MiB").signals.memory_bytes == 2**29
    with pytest.raises(ConfigError, match="memory"):
        with_memory(RunConfig(), "4 gigs")


def test_the_number_of_sizes_is_the_number_of_learners():
    assert PartitionConfig().learners == 8
    sized = partition_config(sizes=["5", "6", "7"], alpha=None)
    assert (sized.sizes, sized.learners) == ((5, 6, 7), 3)
    assert PartitionConfig.model_validate(sized.model_dump()) == sized


def test_all_faults_of_a_partition_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        partition_config(environment="uniform", unseen=1, alpha=0, sizes=[3, 0], learners=2, ratio=0.5)
    for key in ("environment", "unseen", "alpha", "sizes.1", "ratio"):
        assert f"- {key}: " in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": {"coin": True, "members": 3, "non_members": 4}}, "as many members as non_members"),
        ({"split": {"coin": True}, "attacks": {"protocol": "reproduction"}}, "protocol = 'audit'"),
        ({"canaries": {"count": 3}}, "greater than or equal to 4"),
    ],
)
def test_coins_that_would_not_be_fair_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(settings)
