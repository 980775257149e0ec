"""A page taken apart, for tests that look into it."""

from html.parser import HTMLParser
from pathlib import Path

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
SHAPES = {"path", "line", "circle", "rect"}


class Page(HTMLParser):
    """A page taken apart: text by section, tags, and every address that it names."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.size = path.stat().st_size
        self.open: list[tuple[str, str]] = []
        self.unbalanced: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.addresses: list[str] = []
        self.texts: dict[str, str] = {}
        self.rows: list[list[str]] = []
        self.feed(self.source)
        self.close()
        self.unbalanced += [tag for tag, _ in self.open]

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        names = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
        self.addresses += [found[name] or "" for name in names if name in found]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append((tag, found.get("id") or ""))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in SHAPES:
            self.unbalanced.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop()[0] != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        tags = [tag for tag, _ in self.open]
        if "style" in tags or "script" in tags or "title" in tags:
            return
        section = next((name for tag, name in self.open if tag == "section"), "head")
        self.texts[section] = " ".join(f"{self.texts.get(section, '')} {data}".split())
        if ("td" in tags or "th" in tags) and self.rows and self.rows[-1]:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    def count(self, tag: str, **wanted: str) -> int:
        """How many tags have these attributes."""
        return sum(
            name == tag and all(found.get(key) == value for key, value in wanted.items())
            for name, found in self.tags
        )
