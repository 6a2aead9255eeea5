"""A deployed federation within one process of tests: a real SuperLink over TLS, nodes in threads."""

import threading
from contextlib import contextmanager

from privoxel.training.federated.deployment import joining, superlink, supernode
from privoxel.training.federated.deployment.keys import make_keys, private_key
from tests.ports import free_port


@contextmanager
def a_superlink(folder, *learners):
    """Serve a SuperLink for ``learners`` whose keys are in ``folder``/keys; yields its address and state."""
    if not (folder / "keys").exists():
        make_keys(folder / "keys", ["127.0.0.1"], learners)
    address = superlink.Address("127.0.0.1", free_port())
    with superlink.serving(address, folder / "keys", learners) as link:
        yield address, link


@contextmanager
def nodes(folder, address, apps):
    """Let each app of ``apps`` (by learner) answer the server while the block runs."""
    over = threading.Event()
    refused = {}

    def answer(name, app):
        try:
            key = private_key(folder / "keys" / f"{name}.key")
            joining.take_part(app, address, folder / "keys" / "ca.pem", key, over.is_set)
        except joining.RefusedError as refusal:
            refused[name] = str(refusal)

    threads = [threading.Thread(target=answer, args=pair) for pair in apps.items()]
    for thread in threads:
        thread.start()
    try:
        yield refused
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


def line(folder, address, name, keys="keys"):
    """Open a line to the server that is signed by ``name``'s key."""
    key = private_key(folder / keys / f"{name}.key")
    return supernode.line_to(address, folder / "keys" / "ca.pem", key)
