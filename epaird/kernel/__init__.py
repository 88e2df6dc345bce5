"""Every ioctl and netlink call of epaird: devices, namespaces, link events, statistics and policy routing."""
