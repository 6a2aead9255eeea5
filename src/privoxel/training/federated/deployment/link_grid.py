"""A Flower grid over the SuperLink in this process: what its HTTP grid does, without HTTP."""

import time
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, final

from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.object_store import NoObjectInStoreError
from flwr.superlink.grid import HttpGrid
from flwr.superlink.servicer.runtime import runtime_handlers

from privoxel.training.federated.deployment.superlink import Link

PULL_SECONDS = 0.2
CALLS = {
    "GetNodes": runtime_handlers.get_nodes,
    "PushMessages": runtime_handlers.push_messages,
    "PullMessages": runtime_handlers.pull_messages,
    "PushObject": runtime_handlers.push_object,
    "PullObject": runtime_handlers.pull_object,
    "ConfirmMessageReceived": runtime_handlers.confirm_message_received,
}


@final
class LinkGrid(HttpGrid):
    """Flower's grid with the calls of its runtime interface answered by functions of this process."""

    def __init__(self, link: Link) -> None:
        super().__init__(token="in this process")  # noqa: S106 - not a secret; never sent
        self.link = link
        self._client: Any = SimpleNamespace(
            **{
                name: lambda request, call=call: call(request, link.state, link.task)
                for name, call in CALLS.items()
            },
            close=lambda: None,
        )
        self.set_run(link.run)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages, and return the replies that come within ``timeout`` (seconds).

        What was not answered in time is taken back: a learner that comes later is not sent it any more.
        """
        sent = list(self.push_messages(messages))
        open_ones = {number for number in sent if number}
        end = float("inf") if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while open_ones:
            readable = set(filter(self._can_be_read, open_ones))
            found = list(self.pull_messages(readable)) if readable else []
            replies += found
            open_ones -= {reply.metadata.reply_to_message_id for reply in found}
            if open_ones and time.monotonic() >= end:
                break
            time.sleep(PULL_SECONDS if open_ones else 0)
        self.link.state.delete_messages(open_ones)
        for number in sent:
            self.link.state.object_store.delete(number)
        return replies

    def _can_be_read(self, number: str) -> bool:
        """Return whether pulling the answer to message ``number`` would not wait for a learner.

        An answer is announced before its parts are sent. Of a learner that was killed in between they never
        come, and Flower's grid would wait for them for hours; once the learner counts as gone, that is the
        answer.
        """
        state = self.link.state
        with state.lock:
            question = state.message_ins_store.get(number)
            reply = state.message_ins_id_to_message_res_id.get(number)
            if question is None or reply is None:
                return True
            node = state.nodes.get(question.metadata.dst_node_id)
        if node is None or (node.online_until or 0.0) < time.time():
            return True
        try:
            parts = list(iterate_object_tree(state.object_store.get_object_tree(reply)))
        except NoObjectInStoreError:
            return True
        return all(state.object_store.get(part.object_id) for part in parts)
