"""The constants compared with the C headers of this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from epaird.kernel import abi

HEADERS = (
    "sys/inotify.h",
    "sys/mount.h",
    "sys/socket.h",
    "sys/ioctl.h",
    "sys/timerfd.h",
    "asm/socket.h",
    "linux/audit.h",
    "linux/filter.h",
    "linux/if.h",
    "linux/if_arp.h",
    "linux/if_link.h",
    "linux/fib_rules.h",
    "linux/if_tun.h",
    "linux/ip.h",
    "linux/ipv6.h",
    "linux/ipv6_route.h",
    "linux/landlock.h",
    "linux/capability.h",
    "linux/ethtool.h",
    "linux/magic.h",
    "linux/major.h",
    "linux/net_namespace.h",
    "linux/netlink.h",
    "linux/nsfs.h",
    "linux/pkt_sched.h",
    "linux/prctl.h",
    "linux/rtnetlink.h",
    "linux/seccomp.h",
    "linux/sched.h",
    "linux/sockios.h",
    "linux/udp.h",
    "linux/virtio_net.h",
)
OTHER_NAMES = {
    "BPF_LD_W_ABS": "BPF_LD | BPF_W | BPF_ABS",
    "BPF_JMP_JEQ_K": "BPF_JMP | BPF_JEQ | BPF_K",
    "BPF_JMP_JSET_K": "BPF_JMP | BPF_JSET | BPF_K",
    "BPF_RET_K": "BPF_RET | BPF_K",
    "LINUX_CAPABILITY_VERSION_3": "_LINUX_CAPABILITY_VERSION_3",
    "NLA_TYPE_MASK": "NLA_TYPE_MASK & 0xFFFF",
    "VIRTIO_NET_HDR_BYTES": "sizeof(struct virtio_net_hdr)",
}
NEWER_THAN_SOME_HEADERS = {
    "MISC_MAJOR": "10",
    "TUN_MINOR": "200",
    "SO_PASSPIDFD": "76",
    "SCM_PIDFD": "4",
    "TUN_F_USO4": "0x20",
    "TUN_F_USO6": "0x40",
    "VIRTIO_NET_HDR_GSO_UDP_L4": "5",
    "LANDLOCK_ACCESS_FS_TRUNCATE": "1 << 14",
    "LANDLOCK_ACCESS_FS_IOCTL_DEV": "1 << 15",
    "LANDLOCK_ACCESS_NET_BIND_TCP": "1 << 0",
    "LANDLOCK_ACCESS_NET_CONNECT_TCP": "1 << 1",
    "LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET": "1 << 0",
    "LANDLOCK_SCOPE_SIGNAL": "1 << 1",
}
"""Constants of Linux 6.2 and later; Ubuntu 22.04 has the headers of 5.15. The minor number is in none."""

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def test_the_constants_equal_those_of_the_headers(tmp_path: Path) -> None:
    defined = {name: value for name, value in vars(abi).items() if name.isupper() and isinstance(value, int)}
    assert len(defined) > 50
    includes = "".join(f"#include <{header}>\n" for header in HEADERS)
    guards = "".join(
        f"#ifndef {name}\n#define {name} {value}\n#endif\n" for name, value in NEWER_THAN_SOME_HEADERS.items()
    )
    prints = "".join(
        f'printf("{name} %lld\\n", (long long)({OTHER_NAMES.get(name, name)}));\n' for name in defined
    )
    source = tmp_path / "constants.c"
    source.write_text(f"#include <stdio.h>\n{includes}{guards}int main(void) {{\n{prints}return 0;\n}}\n")
    subprocess.run(["cc", "-o", tmp_path / "constants", source], check=True)
    printed = subprocess.run([tmp_path / "constants"], check=True, capture_output=True, text=True).stdout
    expected = {name: int(value) for name, value in (line.split() for line in printed.splitlines())}
    assert expected == defined
