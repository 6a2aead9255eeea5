"""A server knows its learners by what they say, over any grid."""

import pytest

from privoxel.errors import FederationError
from tests.federations import a_job, conduct, roster, run


class Answer:
    """A reply of a node to the question who it is."""

    def __init__(self, node, name, scans=3, grid="6 mm"):
        self.metadata = type("Metadata", (), {"src_node_id": node})
        self.identity = {"learner": name, "scans": scans, "grid": grid}
        records = {"identity": self.identity}
        self.content = type("Content", (), {"config_records": records})
        self.error = type("Error", (), {"reason": "OSError: a reader failed", "code": 1})

    def has_error(self):
        return self.identity["learner"] is None


class Nodes:
    """A grid on which nodes come and go."""

    def __init__(self, *answers):
        self.answers = {answer.metadata.src_node_id: answer for answer in answers}
        self.asked = []

    def get_node_ids(self):
        return list(self.answers)

    def send_and_receive(self, messages, *, timeout):
        nodes = [message.metadata.dst_node_id for message in messages]
        self.asked += nodes
        return [self.answers[node] for node in nodes]


@pytest.fixture(autouse=True)
def _identity():
    with run.server_identity():
        yield


def test_nodes_are_asked_once_and_strangers_are_ignored():
    nodes = Nodes(Answer(11, "west"), Answer(12, "stranger"), Answer(13, "north"))
    known = roster.Roster(("north", "west"))
    assert known.online(nodes) == known.online(nodes) == {11: "west", 13: "north"}
    assert sorted(nodes.asked) == [11, 12, 13]


def test_a_node_that_could_not_answer_is_asked_again_after_a_pause_or_when_it_comes_back(monkeypatch):
    nodes = Nodes(Answer(1, None))
    known = roster.Roster(("north",))
    assert known.online(nodes) == {}
    nodes.answers[1] = Answer(1, "north")
    assert known.online(nodes) == {}
    back = nodes.answers.pop(1)
    assert known.online(nodes) == {}
    nodes.answers[1] = back
    assert known.online(nodes) == {1: "north"}
    monkeypatch.setattr(roster, "FIRST_PAUSE", 0.0)
    nodes.answers[2] = Answer(2, None)
    both = roster.Roster(("north", "west"))
    both.online(nodes)
    nodes.answers[2] = Answer(2, "west")
    assert both.online(nodes) == {1: "north", 2: "west"}


def test_a_node_goes_by_the_name_of_its_key_only(caplog):
    nodes = Nodes(Answer(1, "north"), Answer(2, "north"), Answer(3, "south"))
    known = roster.Roster(("north", "south", "west"), {1: "north", 2: "west", 3: "south"})
    assert known.online(nodes) == {1: "north", 3: "south"}
    assert "key of west is left out: it calls itself north" in caplog.text


def test_an_answer_that_cannot_be_read_leaves_out_its_node_only(caplog):
    nodes = Nodes(Answer(1, "north"), Answer(2, "west", scans="many"))
    assert roster.Roster(("north", "west")).online(nodes) == {1: "north"}
    assert "cannot be read" in caplog.text


def test_different_secrets_are_named_and_sites_without_one_are_not():
    nodes = Nodes(*(Answer(node, name) for node, name in enumerate(("north", "south", "west", "east"))))
    for node, mark in ((0, "aa"), (1, "bb"), (2, "aa")):
        nodes.answers[node].identity["secret"] = mark
    known = roster.Roster(("north", "south", "west", "east"))
    with pytest.raises(FederationError, match=r"got 2 different: north and west; south\. Without one"):
        known.online(nodes)
    nodes.answers[1].identity.update(secret=nodes.answers[0].identity["secret"])
    assert len(roster.Roster(known.expected).online(nodes)) == 4


def test_a_learner_that_returns_as_another_node_takes_its_name_along():
    nodes = Nodes(Answer(1, "north"), Answer(2, "west"))
    known = roster.Roster(("north", "west"))
    known.online(nodes)
    nodes.answers[3] = Answer(3, "north")
    assert known.online(nodes) == {3: "north", 2: "west"}
    del nodes.answers[3]
    assert known.online(nodes) == {1: "north", 2: "west"}


def test_waiting_ends_when_everyone_wanted_is_there_or_time_is_up():
    nodes = Nodes(Answer(1, "north"))
    known = roster.Roster(("north", "west"))
    assert known.wait(nodes, ["north"], seconds=60) == {1: "north"}
    assert known.wait(nodes, ["north", "west"], seconds=0.05) == {1: "north"}


def test_learners_without_scans_are_named_before_the_first_round():
    with pytest.raises(FederationError, match=r"needs scans at every learner, got none at west\. Give"):
        roster.Roster(("north", "west")).online(Nodes(Answer(1, "north"), Answer(2, "west", scans=0)))


def test_learners_on_different_grids_are_told_which():
    nodes = Nodes(Answer(1, "north"), Answer(2, "west", grid="4 mm"))
    with pytest.raises(
        FederationError, match=r"one voxel grid at every learner, got north: 6 mm; west: 4 mm\."
    ):
        roster.Roster(("north", "west")).online(nodes)


def test_a_learner_that_never_connects_is_absent_and_the_others_go_on(tmp_path):
    job = a_job(rounds=1, patience_seconds=0.05)
    (entry,) = conduct(None, job, tmp_path, expected=("north", "south", "west", "east")).participation
    assert entry.took_part == ("north", "south", "west")
    assert entry.absent == ("east",)


def test_an_image_at_two_sites_ends_the_federation_before_it_starts():
    nodes = Nodes(Answer(1, "north"), Answer(2, "west"))
    nodes.answers[1].identity["hashes"] = ["aa", "bb"]
    nodes.answers[2].identity["hashes"] = ["bb", "cc"]
    with pytest.raises(FederationError, match=r"same image twice: 1 at north and west\."):
        roster.Roster(("north", "west")).online(nodes)


def test_a_site_that_prepared_its_scans_otherwise_is_named():
    nodes = Nodes(Answer(1, "north"), Answer(2, "west"), Answer(3, "south"))
    for node, values in ((1, [0.0, 1.0]), (2, [0.0, 1.1]), (3, [0.9, 1.0])):
        nodes.answers[node].identity["quantiles"] = values
    with pytest.raises(FederationError, match=r"prepared alike, got other intensities at south \(0\.90 SD"):
        roster.Roster(("north", "west", "south")).online(nodes)
