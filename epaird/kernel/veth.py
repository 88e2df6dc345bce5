"""veth pairs, the kernel's own cables, for comparison with epaird."""

from __future__ import annotations

import errno

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Namespace, inside


def create(name: str, netns: Namespace, peer: str, peer_netns: Namespace) -> tuple[int, int]:
    """Create a veth pair across two namespaces and return the interface index of each end.

    Raises KernelError, EEXIST when a device of either name exists, EOPNOTSUPP when the kernel has no
    veth (modprobe veth).
    """
    with inside(netns), IPRoute() as route:
        try:
            route.link("add", ifname=name, kind="veth", peer={"ifname": peer, "net_ns_fd": peer_netns.fd})
            (index,) = route.link_lookup(ifname=name)
        except (NetlinkError, OSError) as error:
            number: int = error.code if isinstance(error, NetlinkError) else error.errno or errno.EIO
            raise KernelError.about(f"{name}, a veth", number) from error
    with inside(peer_netns), IPRoute() as route:
        (peer_index,) = route.link_lookup(ifname=peer)
    return int(index), int(peer_index)
