#!/usr/bin/env python3
"""Writes signed.zone and anchor beside itself: a zone signed with a fresh key, valid for thirty years, and its trust anchor.

Run by hand when the zone is to change (needs the package cryptography). One record is signed wrongly on purpose.
"""

import base64
import pathlib
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ZONE = "signed.example."
TTL = 3600
INCEPTION, EXPIRATION = 1704067200, 2650752000  # 2024-01-01 and 2053-12-31, in seconds
STAMPS = ("20531231000000", "20240101000000")
ED25519, ZONE_KEY = 15, 257
TYPES = {"A": 1, "NS": 2, "SOA": 6, "MX": 15, "TXT": 16, "RRSIG": 46, "NSEC": 47, "DNSKEY": 48, "TLSA": 52}


def wire(name):
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def bitmap(types):
    octets = bytearray(max(TYPES[kind] for kind in types) // 8 + 1)
    for kind in types:
        octets[TYPES[kind] // 8] |= 0x80 >> TYPES[kind] % 8
    return bytes([0, len(octets)]) + bytes(octets)


def data(kind, words):
    if kind == "A":
        return bytes(int(part) for part in words[0].split("."))
    if kind == "NS":
        return wire(words[0])
    if kind == "MX":
        return struct.pack("!H", int(words[0])) + wire(words[1])
    if kind == "TXT":
        return bytes([len(words[0])]) + words[0].encode()
    if kind == "SOA":
        return wire(words[0]) + wire(words[1]) + struct.pack("!5I", *map(int, words[2:]))
    if kind == "TLSA":
        return bytes(int(word) for word in words[:3]) + bytes.fromhex(words[3])
    if kind == "NSEC":
        return wire(words[0]) + bitmap(words[1:])
    if kind == "DNSKEY":
        return struct.pack("!HBB", *map(int, words[:3])) + base64.b64decode(words[3])
    raise ValueError(kind)


def key_tag(octets):
    total = sum(octet << 8 if index % 2 == 0 else octet for index, octet in enumerate(octets))
    return (total + (total >> 16)) & 0xFFFF


def signature(key, tag, owner, kind, rows):
    labels = owner.rstrip(".").count(".") + 1
    head = struct.pack("!HBBIIIH", TYPES[kind], ED25519, labels, TTL, EXPIRATION, INCEPTION, tag) + wire(ZONE)
    fixed = wire(owner) + struct.pack("!HHI", TYPES[kind], 1, TTL)
    records = sorted(data(kind, words) for words in rows)
    body = b"".join(fixed + struct.pack("!H", len(record)) + record for record in records)
    return labels, key.sign(head + body)


def main():
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    dnskey = [str(ZONE_KEY), "3", str(ED25519), base64.b64encode(public).decode()]
    tag = key_tag(data("DNSKEY", dnskey))
    sets = {
        ZONE: {
            "SOA": [["ns." + ZONE, "root." + ZONE, "1", "3600", "600", "86400", "300"]],
            "NS": [["ns." + ZONE]],
            "DNSKEY": [dnskey],
            "MX": [["10", "mx." + ZONE], ["20", "mx2." + ZONE]],
        },
        "ns." + ZONE: {"A": [["127.0.0.1"]]},
        "mx." + ZONE: {"A": [["192.0.2.25"]]},
        "_25._tcp.mx." + ZONE: {"TLSA": [["3", "1", "1", "ab" * 32]]},
        "forged." + ZONE: {"A": [["192.0.2.66"]]},
        "long." + ZONE: {"TXT": [[f"{number:03}" + "x" * 200] for number in range(30)]},
    }
    owners = sorted(sets, key=lambda name: [label for label in reversed(name.rstrip(".").split("."))])
    for owner, following in zip(owners, owners[1:] + owners[:1]):
        sets[owner]["NSEC"] = [[following, *sets[owner], "RRSIG", "NSEC"]]
    lines = []
    for owner in owners:
        for kind, rows in sets[owner].items():
            lines += [f"{owner} {TTL} IN {kind} {' '.join(words)}" for words in rows]
            labels, octets = signature(key, tag, owner, kind, rows)
            if owner.startswith("forged.") and kind == "A":
                octets = bytes([octets[0] ^ 1]) + octets[1:]
            text = base64.b64encode(octets).decode()
            lines.append(f"{owner} {TTL} IN RRSIG {kind} {ED25519} {labels} {TTL} {' '.join(STAMPS)} {tag} {ZONE} {text}")
    here = pathlib.Path(__file__).parent
    (here / "signed.zone").write_text("\n".join(lines) + "\n")
    (here / "anchor").write_text(f"{ZONE} {TTL} IN DNSKEY {' '.join(dnskey)}\n")


main()
