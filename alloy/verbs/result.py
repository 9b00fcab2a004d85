"""What the results of all verbs have in common."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter, ValidationError

from configs import UserError

Progress = Callable[[str], None]


def to_stderr(line: str) -> None:
    """The default of ``progress``: a line to stderr."""
    print(line, file=sys.stderr, flush=True)


class Result:
    """A frozen dataclass that goes to JSON and back."""

    only_saved: ClassVar[frozenset[str]] = frozenset()
    """Fields that ``save`` writes and ``to_json`` leaves out."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as `alloy VERB --json` prints them."""
        told = self._fields()
        return {key: value for key, value in told.items() if key not in self.only_saved}

    def save(self, path: str | Path) -> None:
        """Write all fields to a JSON file."""
        text = json.dumps(self._fields(), indent=1)
        Path(path).write_text(text + "\n", encoding="utf-8")

    def _fields(self) -> dict[str, Any]:
        return TypeAdapter(type(self)).dump_python(self, mode="json", by_alias=True)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what ``save``, or the command with ``--json``, wrote. Raises UserError where the
        file is missing or another's."""
        try:
            return TypeAdapter(cls).validate_json(Path(path).read_bytes())
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}", "give a file that `save` wrote") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UserError(
                f"{path} is no {cls.__name__}: {where}: {first['msg']}",
                "give a file that `save` of this kind of result wrote",
            ) from None
