"""Constants of the kernel's ABI, under the names of its headers.

The ioctl numbers are those of x86, ARM and RISC-V; alpha, mips, powerpc and sparc encode ioctl requests
differently. The data plane imports this module too, so it uses the standard library only.
"""

from __future__ import annotations

import struct
from typing import Final

# linux/if_tun.h: ioctl requests on a /dev/net/tun file descriptor
TUNSETIFF: Final = 0x400454CA
TUNGETIFF: Final = 0x800454D2
TUNSETOFFLOAD: Final = 0x400454D0
TUNSETSNDBUF: Final = 0x400454D4
TUNSETVNETLE: Final = 0x400454DC
TUNSETCARRIER: Final = 0x400454E2
TUNGETDEVNETNS: Final = 0x54E3

# asm-generic/ioctls.h
FIONBIO: Final = 0x5421
FIOCLEX: Final = 0x5451

# linux/if_tun.h: flags of TUNSETIFF
IFF_TUN: Final = 0x0001
IFF_TAP: Final = 0x0002
IFF_MULTI_QUEUE: Final = 0x0100
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
IFF_TUN_EXCL: Final = 0x8000

# linux/if_tun.h: features of TUNSETOFFLOAD
TUN_F_CSUM: Final = 0x01
TUN_F_TSO4: Final = 0x02
TUN_F_TSO6: Final = 0x04
TUN_F_TSO_ECN: Final = 0x08
TUN_F_UFO: Final = 0x10
TUN_F_USO4: Final = 0x20
TUN_F_USO6: Final = 0x40

# linux/major.h and linux/miscdevice.h: the device number of /dev/net/tun
MISC_MAJOR: Final = 10
TUN_MINOR: Final = 200

# linux/virtio_net.h: struct virtio_net_hdr
VIRTIO_NET_HDR: Final = struct.Struct("<BBHHHH")
"""flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""
VIRTIO_NET_HDR_BYTES: Final = VIRTIO_NET_HDR.size
VIRTIO_NET_HDR_F_NEEDS_CSUM: Final = 1
VIRTIO_NET_HDR_F_DATA_VALID: Final = 2
VIRTIO_NET_HDR_GSO_NONE: Final = 0
VIRTIO_NET_HDR_GSO_TCPV4: Final = 1
VIRTIO_NET_HDR_GSO_UDP: Final = 3
VIRTIO_NET_HDR_GSO_TCPV6: Final = 4
VIRTIO_NET_HDR_GSO_UDP_L4: Final = 5
VIRTIO_NET_HDR_GSO_ECN: Final = 0x80

# linux/if.h
IFNAMSIZ: Final = 16
IFF_UP: Final = 1 << 0
IFF_LOWER_UP: Final = 1 << 16

# linux/if_arp.h

# linux/sockios.h
SIOCETHTOOL: Final = 0x8946
SIOCSIFFLAGS: Final = 0x8914
SIOCSIFNAME: Final = 0x8923
SIOCGIFHWADDR: Final = 0x8927

# linux/ethtool.h
ETHTOOL_SSET: Final = 0x02
SPEED_10000: Final = 10000
DUPLEX_FULL: Final = 1
PORT_TP: Final = 0

# linux/socket.h, and asm-generic/socket.h
SOL_NETLINK: Final = 270
SO_RCVBUFFORCE: Final = 33
SO_TIMESTAMPNS_NEW: Final = 64
SO_NETNS_COOKIE: Final = 71
SO_PASSPIDFD: Final = 76
SCM_PIDFD: Final = 0x04
MSG_WAITFORONE: Final = 0x10000

# linux/udp.h
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104

# linux/netlink.h
NETLINK_ROUTE: Final = 0
NETLINK_LISTEN_ALL_NSID: Final = 8
NETLINK_CAP_ACK: Final = 10
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x01
NLM_F_ACK: Final = 0x04
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800
NLA_TYPE_MASK: Final = 0x3FFF
NLA_F_NESTED: Final = 0x8000

# linux/rtnetlink.h
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33
RTM_GETRULE: Final = 34
RTM_NEWQDISC: Final = 36
RTM_NEWNSID: Final = 88
RTM_DELNSID: Final = 89
RTM_GETNSID: Final = 90
RTNLGRP_LINK: Final = 1
RTNLGRP_NSID: Final = 28
RTEXT_FILTER_SKIP_STATS: Final = 8
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_MULTIPATH: Final = 9
RTA_CACHEINFO: Final = 12
RTA_TABLE: Final = 15
RTA_NH_ID: Final = 30
RTM_F_CLONED: Final = 0x200
RTNH_F_ONLINK: Final = 4
RTN_UNICAST: Final = 1
RTPROT_UNSPEC: Final = 0
RTPROT_REDIRECT: Final = 1
RTPROT_KERNEL: Final = 2
RTPROT_RA: Final = 9
RTPROT_STATIC: Final = 4
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_LINK: Final = 253
RT_SCOPE_NOWHERE: Final = 255
RT_TABLE_MAIN: Final = 254
RT_TABLE_LOCAL: Final = 255
TCA_KIND: Final = 1

# linux/pkt_sched.h
TC_H_ROOT: Final = 0xFFFFFFFF

# linux/if_addr.h
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_FLAGS: Final = 8
IFA_F_NODAD: Final = 0x02

# linux/fib_rules.h
FRA_DST: Final = 1
FRA_SRC: Final = 2
FRA_IIFNAME: Final = 3
FRA_PRIORITY: Final = 6
FRA_FWMARK: Final = 10
FRA_TUN_ID: Final = 12
FRA_TABLE: Final = 15
FRA_OIFNAME: Final = 17
FRA_L3MDEV: Final = 19
FRA_UID_RANGE: Final = 20
FRA_IP_PROTO: Final = 22
FRA_SPORT_RANGE: Final = 23
FRA_DPORT_RANGE: Final = 24
FR_ACT_TO_TBL: Final = 1
FIB_RULE_IIF_DETACHED: Final = 0x08
FIB_RULE_OIF_DETACHED: Final = 0x10

# linux/if_link.h
IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_QDISC: Final = 6
IFLA_TXQLEN: Final = 13
IFLA_LINKINFO: Final = 18
IFLA_STATS64: Final = 23
IFLA_AF_SPEC: Final = 26
IFLA_GROUP: Final = 27
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
IFLA_NEW_NETNSID: Final = 45
IFLA_TARGET_NETNSID: Final = 46
IFLA_NEW_IFINDEX: Final = 49
IFLA_INFO_KIND: Final = 1
IFLA_INET_CONF: Final = 1

# linux/ip.h
IPV4_DEVCONF_ACCEPT_LOCAL: Final = 23

# linux/ipv6.h
IPV6_MIN_MTU: Final = 1280

# linux/ipv6_route.h
IP6_RT_PRIO_ADDRCONF: Final = 256
IP6_RT_PRIO_USER: Final = 1024

# linux/net_namespace.h
NETNSA_NSID: Final = 1
NETNSA_FD: Final = 3
NETNSA_NSID_NOT_ASSIGNED: Final = -1

# linux/magic.h
NSFS_MAGIC: Final = 0x6E736673

# linux/nsfs.h
NS_GET_NSTYPE: Final = 0xB703

# linux/inotify.h
IN_MODIFY: Final = 0x02
IN_ATTRIB: Final = 0x04
IN_CLOSE_WRITE: Final = 0x08
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x0100_0000
IN_DONT_FOLLOW: Final = 0x0200_0000
IN_NONBLOCK: Final = 0x800
IN_CLOEXEC: Final = 0x80000

# linux/timerfd.h
TFD_TIMER_ABSTIME: Final = 1
TFD_NONBLOCK: Final = 0x800
TFD_CLOEXEC: Final = 0x80000

# linux/sched.h
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWNET: Final = 0x40000000

# linux/mount.h
MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18

# sys/mount.h
MNT_DETACH: Final = 2

# linux/bpf_common.h
BPF_LD_W_ABS: Final = 0x20
BPF_JMP_JEQ_K: Final = 0x15
BPF_JMP_JSET_K: Final = 0x45
BPF_RET_K: Final = 0x06

# linux/audit.h
AUDIT_ARCH_X86_64: Final = 0xC000003E
AUDIT_ARCH_AARCH64: Final = 0xC00000B7

# linux/seccomp.h
SECCOMP_MODE_FILTER: Final = 2
SECCOMP_SET_MODE_FILTER: Final = 1
SECCOMP_FILTER_FLAG_TSYNC: Final = 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW: Final = 4
SECCOMP_RET_ERRNO: Final = 0x00050000
SECCOMP_RET_ALLOW: Final = 0x7FFF0000

# linux/landlock.h
LANDLOCK_CREATE_RULESET_VERSION: Final = 1
LANDLOCK_ACCESS_FS_MAKE_SYM: Final = 1 << 12
LANDLOCK_ACCESS_FS_REFER: Final = 1 << 13
LANDLOCK_ACCESS_FS_TRUNCATE: Final = 1 << 14
LANDLOCK_ACCESS_FS_IOCTL_DEV: Final = 1 << 15
LANDLOCK_ACCESS_NET_BIND_TCP: Final = 1 << 0
LANDLOCK_ACCESS_NET_CONNECT_TCP: Final = 1 << 1
LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET: Final = 1 << 0
LANDLOCK_SCOPE_SIGNAL: Final = 1 << 1

# linux/prctl.h
PR_SET_DUMPABLE: Final = 4
PR_SET_NAME: Final = 15
PR_SET_SECCOMP: Final = 22
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

# linux/capability.h
LINUX_CAPABILITY_VERSION_3: Final = 0x20080522
CAP_NET_BROADCAST: Final = 11
CAP_NET_ADMIN: Final = 12
CAP_SYS_ADMIN: Final = 21
