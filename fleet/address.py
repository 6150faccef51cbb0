"""The address other machines reach this one at, when its configuration names none.

It is the IPv4 address of the interface that the first default route leaves by, as in fleet 1.0.
"""

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

ROUTES = Path("/proc/net/route")

# <linux/sockios.h>, <linux/if.h> and <linux/route.h>
_SIOCGIFADDR = 0x8915
_IFNAMSIZ = 16
_RTF_UP = 0x1
_RTF_REJECT = 0x200


def detect_public_ip() -> str:
    """This machine's IPv4 address towards its default route, or "" if it has none."""
    try:
        routes = ROUTES.read_text()
    except OSError:
        return ""
    interface = parse_default_interface(routes)
    return interface_address(interface) if interface else ""


def parse_default_interface(routes: str) -> str | None:
    """The interface of the first default route in the text of /proc/net/route, or None."""
    header, *rows = routes.splitlines() or [""]
    columns = header.split()
    for row in rows:
        route = dict(zip(columns, row.split(), strict=False))
        try:
            goes_anywhere = int(route["Destination"], 16) == 0 and int(route["Mask"], 16) == 0
            flags = int(route["Flags"], 16)
        except (KeyError, ValueError):
            continue
        if goes_anywhere and flags & _RTF_UP and not flags & _RTF_REJECT:
            return route["Iface"]
    return None


def interface_address(interface: str) -> str:
    """The interface's IPv4 address, or "" if it has none that other machines can reach."""
    request = struct.pack(f"{_IFNAMSIZ}s240x", interface.encode()[: _IFNAMSIZ - 1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
        except OSError:
            return ""
    # struct ifreq: the name, then a struct sockaddr_in of family, port and address.
    address = socket.inet_ntoa(answer[20:24])
    return address if is_reachable(address) else ""


def is_reachable(address: str) -> bool:
    """Whether the IPv4 address can mean this machine to another one."""
    ip = ipaddress.IPv4Address(address)
    nobody = ip.is_unspecified or ip.is_multicast or address == "255.255.255.255"
    return not (nobody or ip.is_loopback or ip.is_link_local)
