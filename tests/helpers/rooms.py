"""The rooms of the house and who imports whom, read from the files alone.

A room is a package without packages below it, or a module that stands directly in a package which
has them. Modules of a room import each other; others import only what the room's stub names.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from places import ROOT

MARK = "<!-- from here on written by: python tests/helpers/rooms.py -->"
PACKAGES = ("configs", "mixing", "checkpoints", "evals", "pretrain", "alloy")
MAY_IMPORT = {
    "configs": set(),
    "mixing": {"configs"},
    "checkpoints": {"configs"},
    "evals": {"configs"},
    "pretrain": {"configs", "mixing", "checkpoints", "evals"},
    "alloy": {"configs", "mixing", "checkpoints", "evals", "pretrain"},
}


def modules(package: str) -> list[Path]:
    """Every file of Python below a package, its doors (``__init__.py``) included."""
    return sorted((ROOT / package).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def is_package(name: str) -> bool:
    return (ROOT / name.replace(".", "/") / "__init__.py").is_file()


@cache
def is_open(name: str) -> bool:
    """Whether a package only holds rooms, so that its own modules are rooms of one file."""
    folder = ROOT / name.replace(".", "/")
    return any(is_package(f"{name}.{p.name}") for p in folder.iterdir() if p.is_dir())


@cache
def room_of(path: Path) -> str:
    """The room in which a file stands."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[-1] == "__init__":
        return ".".join(parts[:-1])
    package = ".".join(parts[:-1])
    return ".".join(parts) if is_open(package) else package


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """(module, name) of everything that a file imports, anywhere in it; ``import m``: (m, None)."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def first_party(path: Path) -> Iterator[tuple[str, str | None]]:
    """As ``imports``, of Alloy alone; a room imported from its package is ``import room``."""
    for module, name in imports(path):
        if module.split(".")[0] not in PACKAGES:
            continue
        whole = f"{module}.{name}"
        if name is not None and (is_package(whole) or _is_room(whole)):
            yield whole, None
        else:
            yield module, name


def _is_room(name: str) -> bool:
    path = ROOT / f"{name.replace('.', '/')}.py"
    return path.is_file() and room_of(path) == name


@cache
def exported(room: str) -> set[str]:
    """The public names of a room that is a package, from its stub; empty where it has none."""
    stub = ROOT / room.replace(".", "/") / "__init__.pyi"
    if not stub.is_file():
        return set()
    names = {alias.name for node in parsed(stub).body for alias in getattr(node, "names", [])}
    values = [node.target for node in parsed(stub).body if isinstance(node, ast.AnnAssign)]
    return names | {value.id for value in values if isinstance(value, ast.Name)}


@cache
def room_graph() -> dict[str, set[str]]:
    """Which rooms each room imports from."""
    graph: dict[str, set[str]] = {}
    for package in PACKAGES:
        for path in modules(package):
            room = room_of(path)
            targets = {module for module, _ in first_party(path)} - {room}
            inside = {t for t in targets if t.startswith(f"{room}.")}
            graph.setdefault(room, set()).update(targets - inside)
    return graph


def storeys(graph: dict[str, set[str]]) -> dict[str, int]:
    """How many rooms stand below each, itself counted. Raises AssertionError for a circle."""
    found: dict[str, int] = {}

    def height(room: str, above: tuple[str, ...]) -> int:
        assert room not in above, " -> ".join((*above, room))
        if room not in found:
            below = (height(other, (*above, room)) for other in graph.get(room, ()))
            found[room] = 1 + max(below, default=0)
        return found[room]

    for room in sorted(graph):
        height(room, ())
    return found


def purpose(room: str) -> str:
    """The first sentence of a room's docstring, on one line."""
    path = ROOT / room.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    opening = (ast.get_docstring(parsed(path)) or "").split("\n\n")[0]
    return " ".join(opening.split()).replace("``", "`").replace("|", "\\|")


def drawn() -> str:
    """The room graph for docs/architecture.md: a table a package, the ground floor first."""
    graph = room_graph()
    parts = []
    for package in PACKAGES:
        own = {room: below for room, below in graph.items() if room.split(".")[0] == package}
        inner = {
            room: {b for b in below if b.split(".")[0] == package} for room, below in own.items()
        }
        floors = storeys(inner)
        parts += [f"### `{package}/`", "", "| storey | room | what it is for | enters | packages |"]
        parts.append("|---|---|---|---|---|")
        for room in sorted(own, key=lambda room: (floors[room], room)):
            if is_package(room) and is_open(room):
                continue
            others = sorted({below.split(".")[0] for below in own[room]} - {package})
            cells = [
                str(floors[room]),
                f"`{room}`",
                purpose(room),
                ", ".join(f"`{b.removeprefix(package + '.')}`" for b in sorted(inner[room])) or "-",
                ", ".join(others) or "-",
            ]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    page = ROOT / "docs" / "architecture.md"
    head, _, _ = page.read_text(encoding="utf-8").partition(MARK)
    page.write_text(head + MARK + "\n\n" + drawn(), encoding="utf-8")
