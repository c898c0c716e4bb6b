"""What the page about the wire format says, and what is so."""

import re
from pathlib import Path

from busway.bus.redis import scripts, wire

PAGE = Path(__file__, "../../../../docs/reference/redis-wire-format.md").resolve().read_text()
LUA = Path(scripts.__file__).parent / "lua"


def rows(heading: str) -> list[list[str]]:
    """Return the cells of each row of tables below a heading, without the tables' own heads."""
    section = re.split(
        r"^## ", PAGE.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE
    )[0]
    lines = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines if "---" not in line]


def test_scripts_are_made_of_the_files_that_it_says() -> None:
    said = {name.strip("`"): re.findall(r"`(\w+)`", parts) for name, parts in rows("Scripts")[1:]}
    files = {path.stem: path.read_bytes() for path in LUA.glob("*.lua")}
    made = {name: b"\n".join(files[part] for part in parts) for name, parts in said.items()}
    assert made == {name: scripts.script(name).text for name in scripts.NAMES}


def test_requests_have_the_fields_that_it_says() -> None:
    said = [row[1] for row in rows("Exchanges") if row[0].isdigit()]
    assert tuple(said) == wire.Request.__struct_fields__


def test_segments_are_those_that_it_says() -> None:
    said = [int(row[0][2]) for row in rows("Exchanges") if row[0].startswith("`[")]
    others = (LUA / "others.lua").read_text()
    operations = re.search(r"operations = \{(.*?)\}", others, re.DOTALL)
    assert operations is not None
    assert said == list(range(len(operations[1].split(","))))
