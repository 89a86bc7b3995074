"""What a report is made of: sections of blocks. Blocks hold plain text only; the template and `to_markdown` escape it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from medgen.report.style import data_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Block", "Bullets", "Code", "Details", "Links", "Picture", "Row", "Section", "Table", "Text", "to_markdown"]


@dataclass(frozen=True)
class Text:
    """A paragraph; a "warning" stands out, a "heading" begins a part of the section."""

    kind: ClassVar[str] = "text"
    text: str
    tone: Literal["plain", "note", "warning", "heading"] = "plain"


@dataclass(frozen=True)
class Bullets:
    """A list of short texts; `small` ones are for looking up."""

    kind: ClassVar[str] = "bullets"
    items: Sequence[str]
    small: bool = False


@dataclass(frozen=True)
class Links:
    """A list of texts, each with the address of its source or none."""

    kind: ClassVar[str] = "links"
    items: Sequence[tuple[str, str]]

    @property
    def safe(self) -> list[tuple[str, str]]:
        """The same, without addresses that are not web pages: they come from plugins."""
        return [(text, url if url.startswith(("https://", "http://")) else "") for text, url in self.items]


@dataclass(frozen=True)
class Table:
    """Rows of texts under a head; an empty head is a plain list of names and values."""

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Code:
    """Text to be copied."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        source: data URI.
        alt: what a reader who cannot see it must know.
        caption: below it.
    """

    kind: ClassVar[str] = "picture"
    source: str
    alt: str
    caption: str = ""

    @classmethod
    def of(cls, figure: Figure, alt: str, caption: str = "", *, vector: bool = False) -> Picture:
        """Drawn as PNG, or as SVG where it holds few marks."""
        return cls(data_uri(figure, vector=vector), alt, caption)


@dataclass(frozen=True)
class Row:
    """Pictures side by side, below each other on narrow screens."""

    kind: ClassVar[str] = "row"
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Details:
    """Blocks that open on a click."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: Sequence[Block]


Block = Text | Bullets | Links | Table | Code | Picture | Row | Details


@dataclass(frozen=True)
class Section:
    """A titled part of the report.

    Args:
        name: identifier, unique in the report; the anchor of its heading.
        title: heading.
        blocks: content, in order.
    """

    name: str
    title: str
    blocks: Sequence[Block]


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    r"""Sections without pictures as CommonMark with tables.

    >>> print(to_markdown("Card", [Section("a", "Data", [Table(("name", "n"), [("a|b", "3")])])]))
    # Card
    <BLANKLINE>
    ## Data
    <BLANKLINE>
    | name | n |
    |---|---|
    | a\|b | 3 |
    <BLANKLINE>
    """
    parts = [f"# {_escaped(title)}"]
    for section in sections:
        parts.append(f"## {_escaped(section.title)}")
        parts += [text for block in section.blocks if (text := _markdown(block))]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Text(text, "warning"):
            return f"> **{_escaped(text)}**"
        case Text(text, tone):
            return f"### {_escaped(text)}" if tone == "heading" else _escaped(text)
        case Bullets(items):
            return "\n".join(f"- {_escaped(item)}" for item in items)
        case Links():
            return "\n".join(f"- {_escaped(text)}{f' <{url}>' if url and not set(url) & set('<> ') else ''}" for text, url in block.safe)
        case Table(head, rows, caption):
            head = head or ("", "")
            lines = [f"| {' | '.join(map(_escaped, row))} |" for row in (head, *rows)]
            lines.insert(1, "|" + "---|" * len(head))
            return "\n".join(lines) + (f"\n\n{_escaped(caption)}" if caption else "")
        case Code(text):
            return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
        case _:
            return ""


def _escaped(text: str) -> str:
    """One line in which no character means markup."""
    line = " ".join(text.split())
    for character in "\\`*[]|":
        line = line.replace(character, "\\" + character)
    return line.replace("<", "&lt;").replace(">", "&gt;")
