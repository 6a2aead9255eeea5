"""A deployed federation, its parts in one process: who is let in, what they may do, and what comes out."""

import datetime
import ssl
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
import torch

from privoxel.errors import FederationError
from privoxel.progress import Silent
from privoxel.seeding import Streams
from privoxel.training.federated.privacy import SecureAggregation
from privoxel.training.runtime import Runtime
from tests.federations import BUILD, COHORT, LEARNERS, a_job, federate, roster, run, weights
from tests.unit.test_federated_roster import Answer, Nodes

deployments = pytest.importorskip("tests.deployments", reason="flwr is an extra", exc_type=ImportError)
from flwr.app import ConfigRecord, Message, RecordDict  # noqa: E402
from flwr.app.message import remove_content_from_message  # noqa: E402
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest  # noqa: E402
from flwr.proto.message_pb2 import Message as ProtoMessage  # noqa: E402
from flwr.supercore.inflatable.inflatable_object import get_object_tree  # noqa: E402

from privoxel.training.federated.deployment import gate, joining, link_grid, superlink, supernode  # noqa: E402
from privoxel.training.federated.deployment.keys import make_keys, public_key  # noqa: E402

NAMES = tuple(learner.name for learner in LEARNERS)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(supernode, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(joining, "RETRY_SECONDS", 0.2)


def site_apps(privacy=None, secrets=None, called=None):
    """Return the app of each learner; they take turns, since threads share torch's randomness."""
    turn = threading.Lock()

    def app_of(learner):
        secret = (secrets or {}).get(learner.name)
        sites = run.Sites(COHORT, LEARNERS, BUILD, Streams(5), Runtime(), secret=secret)
        name = (called or {}).get(learner.name, learner.name)
        site = replace(sites.of(_Partition(LEARNERS.index(learner))), name=name)
        app = run.client_app(lambda _: site, privacy, tells_reasons=False)

        def answer(message, context):
            with turn:
                return app(message, context)

        return answer

    return {learner.name: app_of(learner) for learner in LEARNERS}


class _Partition:
    def __init__(self, number):
        self.node_config = {"partition-id": number}


def deploy(folder, job, apps, names=NAMES):
    """Run a federation over a SuperLink and nodes, over TLS."""
    with (
        deployments.a_superlink(folder, *names) as (address, link),
        deployments.nodes(folder, address, apps) as refused,
        run.server_identity(link.run.run_id),
    ):
        wait_until(lambda: online(link) == set(apps))
        streams = Streams(5).child("server")
        server = run.Server(job, names, BUILD, folder / "run", streams, Silent(), {}, link.nodes)
        found = server.conduct(link_grid.LinkGrid(link))
    assert not refused
    return found


def answers_who(name):
    """Return an app that says who it is, and sends back what else it gets."""

    def answer(message, context):
        identity = ConfigRecord({"learner": name, "scans": 3, "grid": "6 mm"})
        return Message(RecordDict({"identity": identity}), reply_to=message)

    return answer


def ask(link, nodes, seconds=20):
    """Ask nodes who they are, over the grid of the server's process."""
    with run.server_identity(link.run.run_id):
        questions = [Message(RecordDict(), dst_node_id=node, message_type="query.roster") for node in nodes]
        return list(link_grid.LinkGrid(link).send_and_receive(questions, timeout=seconds))


def node_of(link, name):
    return next(node for node, owner in link.nodes.items() if owner == name)


def wait_until(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def online(link):
    return {link.nodes[node] for node in link.state.get_nodes(link.run.run_id)}


def test_a_deployment_gives_the_weights_of_the_same_federation_in_one_process(tmp_path):
    job = a_job(rounds=2)
    deployed = deploy(tmp_path / "deployed", job, site_apps())
    here = federate(tmp_path / "here", job)
    assert [entry.took_part for entry in deployed.participation] == [NAMES, NAMES]
    assert torch.equal(weights(deployed.rounds[2]), weights(here.rounds[2]))


def test_secure_aggregation_over_a_deployment_gives_the_mean(tmp_path):
    privacy = SecureAggregation()
    deployed = deploy(tmp_path / "secure", a_job(rounds=1, privacy=privacy), site_apps(privacy))
    plain = federate(tmp_path / "plain", a_job(rounds=1))
    assert deployed.participation[0].took_part == NAMES
    torch.testing.assert_close(weights(deployed.rounds[1]), weights(plain.rounds[1]), rtol=0, atol=3e-6)


def test_only_the_fleet_interface_is_there_even_for_a_registered_key(tmp_path):
    with (
        deployments.a_superlink(tmp_path, "north") as (address, _),
        deployments.line(tmp_path, address, "north") as line,
    ):
        for path in (
            "/v1/control/start-run",
            "/v1/control/register-node",
            "/v1/runtime/acquire-task",
            "/docs",
        ):
            with pytest.raises(httpx.HTTPStatusError) as refusal:
                line._unary_unary(
                    path=path, rpc_method="", request=PullMessagesRequest(), response_type=PullMessagesRequest
                )
            assert refusal.value.response.status_code in {404, 500}
            assert not refusal.value.response.content.startswith(b"\x0a")
        for path in ("/v1/fleet/register-node", "/v1/fleet/unregister-node"):
            with pytest.raises(httpx.HTTPStatusError) as refusal:
                line._unary_unary(
                    path=path, rpc_method="", request=PullMessagesRequest(), response_type=PullMessagesRequest
                )
            assert refusal.value.response.status_code >= 400


def test_requests_without_a_key_are_refused_whatever_they_ask(tmp_path):
    with deployments.a_superlink(tmp_path, "north") as (address, _):
        for path in ("/v1/fleet/pull-messages", "/v1/control/start-run", "/", "/health"):
            with httpx.Client(verify=_trusting(tmp_path)) as client:
                answer = client.post(f"https://{address}{path}", content=b"x" * 1000)
            assert (answer.status_code, answer.json()["detail"]) == (403, gate.UNKNOWN_KEY)


def test_an_unknown_key_a_wrong_authority_and_a_wrong_clock_are_told_apart(tmp_path, monkeypatch):
    make_keys(tmp_path / "others", ["127.0.0.1"], ["north"])
    with deployments.a_superlink(tmp_path, "north") as (address, _):
        with pytest.raises(joining.RefusedError, match="does not know this site's key"):
            _take_part(tmp_path, address, key="others", authority="keys")
        with pytest.raises(joining.RefusedError, match="not made by this authority"):
            _take_part(tmp_path, address, key="keys", authority="others")
        late = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=10)
        monkeypatch.setattr(gate, "now", lambda: late)
        with pytest.raises(joining.RefusedError, match="its clock differs"):
            _take_part(tmp_path, address, key="keys", authority="keys")


def _take_part(folder, address, key, authority):
    signer = deployments.private_key(folder / key / "north.key")
    joining.take_part(answers_who("north"), address, folder / authority / "ca.pem", signer, lambda: False)


def _trusting(folder):
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusted.load_verify_locations(folder / "keys" / "ca.pem")
    return trusted


def test_a_second_process_with_the_same_key_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(joining, "ANOTHER_SECONDS", 0.5)
    with (
        deployments.a_superlink(tmp_path, "north") as (address, link),
        deployments.nodes(tmp_path, address, {"north": answers_who("north")}),
    ):
        wait_until(lambda: online(link) == {"north"})
        with pytest.raises(joining.RefusedError, match="another process is connected"):
            _take_part(tmp_path, address, key="keys", authority="keys")


def test_a_server_that_stays_away_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(joining, "FIRST_SECONDS", 0.3)
    make_keys(tmp_path / "keys", ["127.0.0.1"], ["north"])
    address = deployments.superlink.Address("127.0.0.1", deployments.free_port())
    with pytest.raises(joining.RefusedError, match="does not answer"):
        _take_part(tmp_path, address, key="keys", authority="keys")


def test_a_reply_in_the_name_of_another_node_is_refused(tmp_path):
    with (
        deployments.a_superlink(tmp_path, "north", "south") as (address, link),
        deployments.line(tmp_path, address, "north") as line,
    ):
        forged = ProtoMessage()
        forged.metadata.src_node_id = node_of(link, "south")
        own = {"node_id": node_of(link, "north")}
        with pytest.raises(httpx.HTTPStatusError) as refusal:
            line.PushMessages(PushMessagesRequest(node=own, messages_list=[forged]))
        assert "another node" in refusal.value.response.json()["detail"]
        with pytest.raises(httpx.HTTPStatusError) as refusal:
            line.PullMessages(PullMessagesRequest(node={"node_id": node_of(link, "south")}))
        assert refusal.value.response.status_code == 401


def test_a_site_that_goes_by_anothers_name_is_left_out_and_named(tmp_path, caplog):
    job = a_job(rounds=1, patience_seconds=0.5)
    found = deploy(tmp_path, job, site_apps(called={"west": "north"}))
    assert found.participation[0].took_part == ("north", "south")
    assert found.participation[0].absent == ("west",)
    assert "key of west is left out: it calls itself north" in caplog.text


def test_sites_with_different_secrets_are_told_before_the_first_round(tmp_path):
    secrets = {"north": b"a" * 32, "south": b"b" * 32, "west": b"a" * 32}
    with pytest.raises(FederationError, match=r"got 2 different: north and west; south\."):
        deploy(tmp_path, a_job(rounds=1), site_apps(secrets=secrets))


def test_an_update_is_delivered_when_a_broken_line_is_back(tmp_path, monkeypatch):
    monkeypatch.setattr(supernode, "RETRY_SECONDS", 0.1)
    whole, broken = supernode.FleetHttpClient.PushMessages, []

    def breaking(line, request):
        if len(broken) < 2:
            broken.append(request)
            raise httpx.ConnectError("the cable is out")
        return whole(line, request)

    monkeypatch.setattr(supernode.FleetHttpClient, "PushMessages", breaking)
    with (
        deployments.a_superlink(tmp_path, "north") as (address, link),
        deployments.nodes(tmp_path, address, {"north": answers_who("north")}),
    ):
        wait_until(lambda: online(link) == {"north"})
        (reply,) = ask(link, [node_of(link, "north")])
    assert len(broken) == 2
    assert reply.content["identity"]["learner"] == "north"


def test_a_node_that_leaves_without_an_answer_is_not_waited_for(tmp_path):
    with deployments.a_superlink(tmp_path, "north") as (address, link):
        north, replies = node_of(link, "north"), []
        key = deployments.private_key(tmp_path / "keys" / "north.key")
        with deployments.line(tmp_path, address, "north") as line:
            node = supernode.SuperNode(line, key, answers_who("north"), threading.Event())
            with node.connected():
                asking = threading.Thread(target=lambda: replies.extend(ask(link, [north])))
                asking.start()
                pull = PullMessagesRequest(node={"node_id": north})
                wait_until(lambda: line.PullMessages(pull).messages_list)
        asking.join(20)
        assert [reply.has_error() for reply in replies] == [True]
        with deployments.nodes(tmp_path, address, {"north": answers_who("north")}):
            wait_until(lambda: online(link) == {"north"})
            (reply,) = ask(link, [north])
    assert reply.content["identity"]["learner"] == "north"


def test_the_sites_are_told_when_the_federation_is_over(tmp_path):
    with deployments.a_superlink(tmp_path, "north") as (address, link):
        ended = threading.Thread(target=lambda: _take_part(tmp_path, address, "keys", "keys"))
        ended.start()
        wait_until(lambda: online(link) == {"north"})
    ended.join(20)
    assert not ended.is_alive()


def test_a_site_that_is_at_work_hears_from_its_heartbeat_that_it_is_over(tmp_path, monkeypatch):
    over = threading.Event()
    with ExitStack() as stack:
        with deployments.a_superlink(tmp_path, "north") as (address, _):
            line = stack.enter_context(deployments.line(tmp_path, address, "north"))
            key = deployments.private_key(tmp_path / "keys" / "north.key")
            node = supernode.SuperNode(line, key, answers_who("north"), over)
            monkeypatch.setattr(supernode, "HEARTBEAT_SECONDS", 0.3)
            stack.enter_context(node.connected())
            assert not over.is_set()
        assert over.wait(5)


def test_an_answer_that_does_not_come_in_time_is_taken_back(tmp_path):
    released = threading.Event()

    def slow(message, context):
        released.wait(20)
        return answers_who("north")(message, context)

    with (
        deployments.a_superlink(tmp_path, "north") as (address, link),
        deployments.nodes(tmp_path, address, {"north": slow}),
    ):
        wait_until(lambda: online(link) == {"north"})
        assert ask(link, [node_of(link, "north")], seconds=0.5) == []
        assert link.state.num_message_ins() == 0
        released.set()
        (reply,) = ask(link, [node_of(link, "north")])
        assert reply.content["identity"]["learner"] == "north"
        assert link.state.object_store.store == {}


def test_an_app_that_fails_tells_the_server_no_more_than_the_kind(tmp_path):
    def broken(message, context):
        raise ValueError("/data/participant-7.nii")

    with (
        deployments.a_superlink(tmp_path, "north") as (address, link),
        deployments.nodes(tmp_path, address, {"north": broken}),
    ):
        wait_until(lambda: online(link) == {"north"})
        (reply,) = ask(link, [node_of(link, "north")])
    assert reply.error.reason == "ValueError"


def test_a_silent_node_is_asked_again_after_longer_and_longer(monkeypatch, caplog):
    clock = [100.0]
    monkeypatch.setattr(roster, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    failing = Answer(7, None)
    failing.error = type("Error", (), {"reason": "ValueError", "code": 1})
    grid, known = Nodes(failing), roster.Roster(("north",), {7: "north"})
    asked_at = []
    with run.server_identity():
        for second in range(200):
            clock[0] = 100.0 + second
            known.online(grid)
            asked_at += [second] * len(grid.asked)
            grid.asked.clear()
    assert asked_at == [0, 5, 15, 35, 75, 135, 195]
    assert "key of north is left out: ValueError. It is asked again in 5 s" in caplog.text


def test_an_answer_whose_parts_never_come_is_given_up_when_its_learner_is_gone(tmp_path):
    make_keys(tmp_path, ["127.0.0.1"], ["north"])
    link = superlink.new_link({"north": public_key(tmp_path / "north.pub")})
    (node,) = link.nodes
    link.state.activate_node(node, gate.HEARTBEAT_SECONDS)

    def announce(seconds):
        """Announce an answer without sending it, and after some time be gone."""
        wait_until(link.state.num_message_ins)
        (question,) = link.state.get_message_ins(node_id=node, limit=1)
        reply = Message(RecordDict({"c": ConfigRecord({"x": 1})}), reply_to=question)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        link.state.object_store.preregister(link.run.run_id, get_object_tree(reply))
        assert link.state.store_message_res(remove_content_from_message(reply))
        time.sleep(seconds)
        link.state.nodes[node].online_until = time.time() - 1

    started = time.monotonic()
    site = threading.Thread(target=announce, args=(1.0,), daemon=True)
    site.start()
    (found,) = ask(link, [node])
    site.join()
    assert found.has_error()
    assert 1.0 < time.monotonic() - started < 10
