"""Keys and secrets of a deployment: made well, read strictly."""

import pytest

asymmetric = pytest.importorskip("flwr.supercore.primitives.asymmetric", reason="flwr is an extra")
from privoxel.errors import FederationError  # noqa: E402
from privoxel.training.federated.deployment.keys import (  # noqa: E402
    make_keys,
    make_secret,
    private_key,
    public_key,
    read_secret,
)
from privoxel.training.federated.deployment.superlink import new_link  # noqa: E402


def test_a_made_secret_is_long_enough_private_and_never_replaced(tmp_path):
    path = make_secret(tmp_path / "new" / "shared.secret")
    assert len(read_secret(path)) == 64
    assert path.stat().st_mode & 0o077 == 0
    assert read_secret(path) != read_secret(make_secret(tmp_path / "other"))
    with pytest.raises(FederationError, match="needs a new file"):
        make_secret(path)


def test_a_secret_that_could_be_guessed_is_refused_and_white_space_does_not_count(tmp_path):
    short = tmp_path / "short"
    short.write_bytes(b"x" * 31 + b"\r\n  ")
    with pytest.raises(FederationError, match="at least 32 bytes, got 31"):
        read_secret(short)
    with pytest.raises(FederationError, match="got no file"):
        read_secret(tmp_path / "none")
    for name, end in (("unix", b"\n"), ("windows", b"\r\n")):
        (tmp_path / name).write_bytes(b"y" * 32 + end)
    assert read_secret(tmp_path / "unix") == read_secret(tmp_path / "windows")


def test_a_pair_of_keys_belongs_together_and_other_files_are_refused(tmp_path):
    make_keys(tmp_path, ["127.0.0.1"], ["north"])
    pair = private_key(tmp_path / "north.key"), public_key(tmp_path / "north.pub")
    assert asymmetric.public_key_to_bytes(pair[0].public_key()) == pair[1]
    with pytest.raises(FederationError, match=r"north\.pub needs a private key of a learner"):
        private_key(tmp_path / "north.pub")
    with pytest.raises(FederationError, match=r"ca\.pem needs a public key of a learner"):
        public_key(tmp_path / "ca.pem")


def test_two_learners_with_one_key_are_refused():
    with pytest.raises(FederationError, match="one key for north, west"):
        new_link({"north": b"one", "south": b"two", "west": b"one"})
