#!/usr/bin/env python3
"""Checks that each room of src/ includes only headers of rooms that its DEPENDS names, and depends
only on rooms before it in REPQUANT_ROOMS: there is one include root, so no compiler says this."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def words(path: str, pattern: str) -> list[str]:
    text = re.sub(r"#.*", "", (ROOT / path).read_text())
    found = re.search(pattern, text)
    return found.group(1).split() if found else []


def included(room: str) -> list[tuple[str, str]]:
    """Each quoted include of another folder, with its place."""
    folder = ROOT / "include" if room == "include" else ROOT / "src" / room
    result = []
    for path in sorted([*folder.rglob("*.h"), *folder.rglob("*.cpp")]):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r'#include "(\w+)/', line)
            if found:
                result.append((found.group(1), f"{path.relative_to(ROOT)}:{number}"))
    return result


def main() -> int:
    rooms = words("cmake/repquant_room.cmake", r"set\(REPQUANT_ROOMS\s([^)]*)\)")
    mistakes = []
    for position, room in enumerate(rooms):
        place = f"src/{room}/CMakeLists.txt"
        depends = words(place, r"repquant_add_room\([^)]*?\bDEPENDS\b([^)]*?)(?:[A-Z_]+DEPENDS|\))")
        depends = [name for name in depends if name in rooms]
        mistakes += [f"{place}: {name} comes later in REPQUANT_ROOMS" for name in depends
                     if name not in rooms[:position]]
        mistakes += [f"{where}: DEPENDS of {room} does not name {name}"
                     for name, where in included(room)
                     if name in rooms and name not in (room, *depends)]
    mistakes += [f"{where}: a public header includes {name}"
                 for name, where in included("include") if name in rooms]
    print("\n".join(mistakes), end="\n" if mistakes else "")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
