"""The one door of a deployed server: Flower's Fleet API, behind a gate that asks for a registered key.

A request is let in by its headers (public key, signed time: Flower's own SuperNode authentication) before
its body is read; nothing but the Fleet API lies behind.
"""

import base64
import binascii
import datetime
import logging
from collections.abc import Mapping
from typing import final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from flwr.common.constant import (
    HEARTBEAT_MIN_INTERVAL,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
)
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.error import http_error_translator
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from flwr.superlink.routers.fleet.router import router
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = HEARTBEAT_MIN_INTERVAL
"""The shortest interval that Flower's SuperLink accepts; a learner that is silent for two of them is gone."""
UNKNOWN_KEY, WRONG_TIME, OVER = "unknown key", "wrong time", "over"


def fleet_app(factory: LinkStateFactory) -> FastAPI:
    """Return Flower's Fleet API over the state of ``factory``, and no other of Flower's interfaces."""
    app = FastAPI(
        openapi_url=None,
        middleware=[
            Middleware(BaseHTTPMiddleware, dispatch=http_error_translator),
            Middleware(ProtobufTranslationMiddleware),
            Middleware(NodeAuthMiddleware),
            Middleware(BaseHTTPMiddleware, dispatch=_own_replies_only),
        ],
    )
    app.state.linkstate_factory = factory
    app.state.enable_supernode_auth = True
    app.include_router(router)
    return app


async def _own_replies_only(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """Refuse replies in the name of another node, which Flower does not look at."""
    asked = getattr(request.state, "protobuf_request", None)
    if isinstance(asked, PushMessagesRequest):
        senders = {message.metadata.src_node_id for message in asked.messages_list}
        if senders != {asked.node.node_id}:
            return JSONResponse({"detail": "a reply in the name of another node"}, 403)
    return await call_next(request)


@final
class Gate:
    """An ASGI app that lets in requests signed by one of ``keys`` (PEM to learner), and counts who was told.

    ``is_over`` makes it answer everyone that the federation has ended.
    """

    def __init__(self, app: ASGIApp, keys: Mapping[bytes, str]) -> None:
        self.app = app
        self.keys = keys
        self.is_over = False
        self.told: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            return
        name, refusal = self._who(Headers(scope=scope))
        if not refusal and self.is_over:
            refusal = OVER
        if not refusal:
            await self.app(scope, receive, send)
            return
        await JSONResponse({"detail": refusal}, 410 if refusal == OVER else 403)(scope, receive, send)
        if refusal == OVER:
            self.told.add(name)

    def _who(self, headers: Headers) -> tuple[str, str]:
        """Return the learner whose key signed the request, and why it cannot come in (empty: it can)."""
        try:
            key = base64.b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
            signature = base64.b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER], validate=True)
            signed = headers[TIMESTAMP_HEADER]
            age = (now() - datetime.datetime.fromisoformat(signed)).total_seconds()
            name = self.keys.get(key)
            if name is None or not verify_signature(
                bytes_to_public_key(key), signed.encode("ascii"), signature
            ):
                return "", UNKNOWN_KEY
        except (KeyError, ValueError, TypeError, binascii.Error):
            return "", UNKNOWN_KEY
        if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
            return name, WRONG_TIME
        return name, ""
