import pickle

import numpy as np
import pytest

from privoxel.errors import SignalError
from privoxel.signals.table import LazyArray, Membership, SignalTable
from tests.conftest import make_cohort


def table_of(tmp_path, rng, scans=11, snapshots=3):
    covariates = make_cohort(scans).covariates
    predictions = rng.standard_normal((1, snapshots, scans)).astype(np.float32) + 60
    np.save(tmp_path / "prediction.npy", predictions)
    values = {
        "prediction": LazyArray(tmp_path / "prediction.npy"),
        "gradient:conv1": LazyArray(rng.standard_normal((1, snapshots, scans, 2, 5)).astype(np.float16)),
    }
    membership = np.array([[1, 0, -1] * 3 + [1, 0]], dtype=np.int8)
    return SignalTable(
        covariates, ("cnn3d",), ("epoch-1", "epoch-2", "epoch-3"), membership, values
    ), predictions


def test_reading_gives_the_last_snapshot_in_float32(tmp_path, rng):
    table, predictions = table_of(tmp_path, rng)
    np.testing.assert_array_equal(table.read("prediction"), predictions[0, -1])
    np.testing.assert_array_equal(table.read("prediction", snapshot=0), predictions[0, 0])
    assert table.read("gradient:conv1").dtype == np.float32
    np.testing.assert_allclose(table.error(), predictions[0, -1].astype(float) - table.age)


def test_a_selection_of_a_selection_reads_the_right_scans(tmp_path, rng):
    table, predictions = table_of(tmp_path, rng)
    chosen = table.select([7, 3, 9]).select(np.array([False, True, True]))
    np.testing.assert_array_equal(chosen.read("prediction"), predictions[0, -1, [3, 9]])
    assert chosen.scans == (table.scans[3], table.scans[9])
    np.testing.assert_array_equal(chosen.membership, table.membership[:, [3, 9]])


def test_a_table_pickles_as_paths(tmp_path, rng):
    table, predictions = table_of(tmp_path, rng)
    again = pickle.loads(pickle.dumps(table.values["prediction"]))  # noqa: S301
    assert again.source == tmp_path / "prediction.npy"
    np.testing.assert_array_equal(again.read(), predictions[0, -1])


def test_a_missing_signal_is_named(tmp_path, rng):
    table, _ = table_of(tmp_path, rng)
    assert table.missing({"prediction", "activation:conv5"}) == ("activation:conv5",)
    with pytest.raises(
        SignalError, match=r"needs the signal activation:conv5, got gradient:conv1, prediction"
    ):
        table.read("activation:conv5")


def test_blinding_hides_every_membership(tmp_path, rng):
    table, _ = table_of(tmp_path, rng)
    assert (table.blinded().membership == Membership.EXCLUDED).all()
    assert table.is_member().sum() == 4


def test_tables_that_do_not_align_are_refused(tmp_path, rng):
    table, _ = table_of(tmp_path, rng)
    with pytest.raises(SignalError, match="models × snapshots × scans"):
        SignalTable(table.covariates, ("m",), ("one",), table.membership, table.values)
    with pytest.raises(SignalError, match="membership of shape"):
        SignalTable(table.covariates, ("m", "n"), table.snapshots, table.membership, {})
