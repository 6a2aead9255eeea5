"""A site's SuperNode: Flower's Fleet protocol around one fixed app, in the site's own process.

Flower 1.41's ``flower-supernode`` starts a further process that fetches the server's bundle of code and runs
it, for every message. Here a message is answered by the app that was installed at the site; no code is ever
fetched, and no process started.
"""

import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar, final

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Context, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import HEARTBEAT_CALL_TIMEOUT, ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    UnexpectedObjectContentError,
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
    push_objects,
)
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from privoxel.training.federated.deployment.gate import HEARTBEAT_SECONDS
from privoxel.training.federated.deployment.superlink import Address

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
RETRY_SECONDS = 2.0
PATIENCE_SECONDS = 120.0
"""How long a node that has trained tries to deliver its update over a line that is broken."""

Answer = TypeVar("Answer")


@contextmanager
def line_to(server: Address, certificate: Path, key: ec.EllipticCurvePrivateKey) -> Iterator[FleetHttpClient]:
    """Open a line to the server that trusts this authority's certificates only and signs every call."""
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusted.load_verify_locations(certificate)
    signing = NodeAuthHttpInterceptor(key, key.public_key())
    version = RuntimeVersionHttpInterceptor(component_name="SuperNode")
    with FleetHttpClient(f"https://{server}", interceptors=[version, signing], verify=trusted) as line:
        line._client.follow_redirects = False  # a server could send a site anywhere
        yield line


def patiently(call: Callable[[], Answer]) -> Answer:
    """Return what ``call`` does, called again for a while where the line breaks."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except httpx.TransportError as error:
            if time.monotonic() > end:
                raise
            logger.info("The line broke: %s. Trying again", error)
        time.sleep(RETRY_SECONDS)


@final
class SuperNode:
    """A learner's node on an open line, from its activation on; ``answer`` answers what the server asks.

    ``over`` is set when the server says that the federation is over, also while the app is at work.
    """

    def __init__(
        self,
        line: FleetHttpClient,
        key: ec.EllipticCurvePrivateKey,
        app: ClientAppCallable,
        over: threading.Event,
    ) -> None:
        self.line = line
        self.app = app
        self.over = over
        self.context: Context | None = None
        public = public_key_to_bytes(key.public_key())
        request = ActivateNodeRequest(public_key=public, heartbeat_interval=HEARTBEAT_SECONDS)
        self.node = Node(node_id=line.ActivateNode(request).node_id)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Send heartbeats while the block runs, and take leave after it."""
        stopped = threading.Event()
        thread = threading.Thread(target=self._beat, args=(stopped,), name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join(HEARTBEAT_CALL_TIMEOUT)  # a late heartbeat would bring the node back
            with suppress(httpx.HTTPError):
                self.line.DeactivateNode(DeactivateNodeRequest(node_id=self.node.node_id))

    def _beat(self, stopped: threading.Event) -> None:
        request = SendNodeHeartbeatRequest(node=self.node, heartbeat_interval=HEARTBEAT_SECONDS)
        while not stopped.wait(HEARTBEAT_SECONDS / 3):
            try:
                self.line.SendNodeHeartbeat(request)
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.GONE:
                    self.over.set()
            except (httpx.HTTPError, RuntimeError) as error:  # a closed line is a RuntimeError
                logger.debug("A heartbeat was lost: %s", error)

    def answer(self, until: Callable[[], bool]) -> None:
        """Answer the server's messages, one after another, until it is time or over.

        Raises:
            httpx.HTTPError: if the line breaks or the server refuses.
        """
        while not (until() or self.over.is_set()):
            message = self._pull()
            if message is None:
                time.sleep(POLL_SECONDS)
                continue
            started = time.monotonic()
            reply = self._reply(message)
            seconds = time.monotonic() - started
            patiently(partial(self._push, reply, seconds))

    def _pull(self) -> Message | None:
        response = self.line.PullMessages(PullMessagesRequest(node=self.node))
        if not response.messages_list:
            return None
        tree = response.message_object_trees[0]
        run = response.messages_list[0].metadata.run_id
        pull = make_pull_object_fn_protobuf(self.line.PullObject, self.node, run)
        confirm = make_confirm_message_received_fn_protobuf(self.line.ConfirmMessageReceived, self.node, run)
        try:
            message = pull_and_inflate_object_from_tree(tree, pull, confirm, return_type=Message)
        except (ObjectPullError, UnexpectedObjectContentError, ValueError, TypeError) as error:
            logger.info("A message was taken back or cannot be read: %s", error)
            return None
        message.metadata.__dict__["_message_id"] = tree.object_id
        return message

    def _reply(self, message: Message) -> Message:
        run = message.metadata.run_id
        if self.context is None or self.context.run_id != run:
            self.context = Context(run, self.node.node_id, {}, RecordDict(), {})
        logger.info("Answering %s", message.metadata.message_type)
        try:
            return self.app(message, self.context)
        except Exception as error:  # a message that no app answers is the server's fault
            logger.exception("The site could not answer %s", message.metadata.message_type)
            kind = type(error).__name__
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, kind), reply_to=message)

    def _push(self, reply: Message, seconds: float) -> None:
        reply.metadata.__dict__["_message_id"] = reply.object_id
        with no_object_id_recompute():
            response = self.line.PushMessages(
                PushMessagesRequest(
                    node=self.node,
                    messages_list=[message_to_proto(remove_content_from_message(reply))],
                    message_object_trees=[get_object_tree(reply)],
                    clientapp_runtime_list=[seconds],
                )
            )
            push = make_push_object_fn_protobuf(
                self.line.PushObject, self.node, reply.metadata.run_id, response.session_id
            )
            wanted = set(response.objects_to_push)
            try:
                push_objects(get_all_nested_objects(reply), push, object_ids_to_push=wanted)
            except ObjectPushError as error:
                logger.info("A reply came too late: %s", error)
