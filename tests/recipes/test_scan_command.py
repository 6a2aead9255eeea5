"""The command ``privoxel scan``: what it prints and how it exits."""

import json
import pickle

import pytest

from tests.artefacts import table, weights
from tests.recipes.commands import call


@pytest.fixture
def files(tmp_path):
    clean, leak, torn = (tmp_path / name for name in ("clean.pkl", "leak.pkl", "torn.pkl"))
    clean.write_bytes(pickle.dumps(weights()))
    leak.write_bytes(pickle.dumps(table()))
    torn.write_bytes(pickle.dumps(weights())[:50])
    return clean, leak, torn


def test_the_exit_code_is_the_gravest_outcome(monkeypatch, files):
    clean, leak, torn = files
    assert call(monkeypatch, "scan", clean) == 0
    assert call(monkeypatch, "scan", clean, leak) == 1
    assert call(monkeypatch, "scan", clean, torn) == 2
    assert call(monkeypatch, "scan", torn, leak) == 1
    assert call(monkeypatch, "scan") == 2


def test_what_it_prints_fits_80_columns_and_names_nobody(monkeypatch, files, capsys):
    monkeypatch.chdir(files[0].parent)
    call(monkeypatch, "scan", *(file.name for file in files))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("clean.pkl: nothing found")
    assert not any("sub-0" in line for line in lines)
    assert any("[identifier] BIDS participant, 10 times, 10 different" in line for line in lines)


def test_machines_get_every_finding(monkeypatch, files, capsys):
    assert call(monkeypatch, "scan", files[1], files[2], "--json") == 1
    record = json.loads(capsys.readouterr().out)
    leak, torn = record["artefacts"]
    assert {finding["kind"] for finding in leak["findings"]} == {"identifier", "table"}
    assert torn["outcome"] == "unread"
    assert torn["not_read"]
