#!/usr/bin/env python3
"""Includes point down only, and siblings never include each other (docs/ARCHITECTURE.md, rooms)."""
import pathlib
import re
import sys

ALLOWED = {
    "proto": set(),
    "daemon/core": {"proto"},
    "daemon/runtime": set(),
    "config": {"daemon/core", "proto"},
    "daemon/engine": {"daemon/core", "daemon/runtime", "proto"},
}
LOWER = {"daemon/engine", "config", "daemon/core", "daemon/runtime", "proto"}
for room in ("daemon/origin", "daemon/redis", "daemon/observe"):
    ALLOWED[room] = LOWER
ALLOWED["daemon/http"] = LOWER | {"daemon/observe"}
ALLOWED["daemon/app"] = LOWER | {"daemon/origin", "daemon/redis", "daemon/observe", "daemon/http"}
ALLOWED["daemon"] = {"daemon/app"}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def room_of(path):
    return str(pathlib.PurePosixPath(path).parent)


def offences(path, text):
    room = room_of(path)
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match and room_of(match[1]) not in ALLOWED[room] | {room}:
            yield f"{path}:{number}: {room} must not include {match[1]}"


def self_test():
    bad = list(offences("daemon/core/x.hpp", '#include "daemon/engine/cache.hpp"\n#include "proto/text.hpp"\n'))
    siblings = list(offences("daemon/redis/x.cpp", '#include "daemon/origin/guard.hpp"\n'))
    return 0 if len(bad) == 1 and len(siblings) == 1 else 1


def main():
    if "--self-test" in sys.argv:
        return self_test()
    root = pathlib.Path(__file__).resolve().parent.parent
    found = []
    for top in ("daemon", "config", "proto"):
        for path in sorted((root / top).rglob("*.[ch]pp")):
            found += offences(path.relative_to(root).as_posix(), path.read_text())
    print("\n".join(found) or "layers: ok")
    return 1 if found else 0


sys.exit(main())
