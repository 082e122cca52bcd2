#!/usr/bin/env python3
"""Checks that includes between the rooms of the house point down only, and that siblings do not know each other.

    tests/layers.py              prints every include that breaks the rule; exit code 1 when there is one
    tests/layers.py --self-test  shows that the check can fail
"""
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What each room may include besides itself, from low to high.
MAY_INCLUDE = {
    "proto": [],
    "daemon/core": ["proto"],
    "daemon/runtime": [],
    "config": ["daemon/core", "proto"],
    "daemon/engine": ["daemon/core", "daemon/runtime", "proto"],
    "daemon/origin": ["daemon/engine", "config", "daemon/core", "daemon/runtime", "proto"],
    "daemon/redis": ["daemon/engine", "config", "daemon/core", "daemon/runtime", "proto"],
    "daemon/observe": ["daemon/engine", "config", "daemon/core", "daemon/runtime", "proto"],
    "daemon/http": ["daemon/engine", "config", "daemon/observe", "daemon/core", "daemon/runtime", "proto"],
}
ANYTHING = ["daemon/app", "daemon/main.cpp"]  # the composition root
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SOURCES = (".cpp", ".hpp", ".h", ".cc", ".ipp")


def room_of(path):
    """The room a file lies in, or None. `path` is relative to the root, with forward slashes."""
    for room in [*MAY_INCLUDE, *ANYTHING]:
        if path == room or path.startswith(room + "/"):
            return room
    return None


def offences(root):
    """FILE:LINE: message for every include that breaks the rule."""
    found = []
    for top in ("proto", "config", "daemon"):
        for file in sorted((root / top).rglob("*")):
            if file.suffix in SOURCES:
                found += offences_of_file(root, file)
    return found


def offences_of_file(root, file):
    path = file.relative_to(root).as_posix()
    room = room_of(path)
    if room is None:
        return [f"{path}:1: lies in no room of the house"]
    if room in ANYTHING:
        return []
    found = []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, target = match.groups()
        target_room = room_of(target)
        if target_room is None:
            if quote == '"' and (root / path).parent.joinpath(target).exists():
                found.append(f'{path}:{number}: include "{target}" by its path from the root')
            continue
        if target_room != room and target_room not in MAY_INCLUDE[room]:
            found.append(f'{path}:{number}: {room} may not include "{target}"')
    return found


def self_test():
    """One tree that keeps the rule, and files that break it one way each."""
    good = {"proto/a.hpp": "", "daemon/core/b.hpp": '#include "proto/a.hpp"\n#include <vector>\n',
            "daemon/redis/c.cpp": '#include "daemon/core/b.hpp"\n#include "daemon/redis/c.hpp"\n#include "hiredis/read.h"\n',
            "daemon/app/d.cpp": '#include "daemon/redis/c.hpp"\n', "daemon/main.cpp": '#include "daemon/app/d.hpp"\n', "config/e.hpp": '#include "daemon/core/b.hpp"\n'}
    bad = {"proto/up.cpp": '#include "daemon/core/b.hpp"\n', "daemon/core/up.cpp": '#include "daemon/runtime/x.hpp"\n',
           "daemon/runtime/up.cpp": '#include "proto/a.hpp"\n', "daemon/engine/up.cpp": '#include "config/e.hpp"\n',
           "daemon/redis/sibling.cpp": '#  include <daemon/observe/x.hpp>\n', "daemon/http/up.cpp": '#include "daemon/app/d.hpp"\n',
           "daemon/stray.cpp": "", "proto/relative.cpp": '#include "a.hpp"\n'}
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        for name, text in good.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        assert offences(root) == [], offences(root)
        for name, text in bad.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            assert [offence.split(":")[0] for offence in offences(root)] == [name], (name, offences(root))
            file.unlink()


def main(args):
    if args == ["--self-test"]:
        self_test()
        return 0
    if args:
        print(__doc__, file=sys.stderr)
        return 2
    found = offences(ROOT)
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
