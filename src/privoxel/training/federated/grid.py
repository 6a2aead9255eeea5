"""A Flower grid inside this process: messages are answered one after another by calling the app."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, final

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1
FIRST_NODE = SUPERLINK_NODE_ID + 1


@final
class InProcessGrid(Grid):
    """Nodes with the configurations ``nodes``, numbered after the server, all of which run ``app`` here.

    A node keeps its ``Context.state`` from message to message, as in Flower's runtimes. Messages are copied:
    strategies share one record between nodes.
    """

    def __init__(self, app: ClientApp, nodes: Sequence[dict[str, Any]]) -> None:
        self._app = app
        self._contexts = {
            node: Context(RUN_ID, node, dict(config), RecordDict(), {})
            for node, config in enumerate(nodes, FIRST_NODE)
        }
        self._numbers = count(1)
        self._replies: dict[str, Message] = {}
        self._run = Run.create_empty(RUN_ID)

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes."""
        return list(self._contexts)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message; Flower's older workflows make theirs here."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Answer the messages, and return the ids by which the replies are pulled."""
        return [self._answer(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to the messages of these ids."""
        return [self._replies.pop(key) for key in list(message_ids) if key in self._replies]

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002 - a call has no time limit
    ) -> Iterable[Message]:
        """Answer the messages, and return the replies."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> str:
        key = str(next(self._numbers))
        message.metadata.__dict__["_message_id"] = key
        received = copy.deepcopy(message)
        self._replies[key] = self._app(received, self._contexts[message.metadata.dst_node_id])
        return key


@contextmanager
def server_identity(run_id: int = RUN_ID) -> Iterator[None]:
    """Let messages of a run be made outside Flower's processes, which set this identity at their start."""
    names = ("_task_id", "_run_id", "_node_id")
    before = {name: getattr(TaskIdentity, name) for name in names}
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, SUPERLINK_NODE_ID
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(TaskIdentity, name, value)
