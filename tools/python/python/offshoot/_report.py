"""Reports: dictionaries with the command line's fields, its tables as text, and a form for notebooks."""

import html
import json
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

_STYLE = (
    "<style>.offshoot table{border-collapse:collapse;font-size:.9em;margin:.4em 0}"
    ".offshoot th,.offshoot td{padding:.15em .7em;border-bottom:1px solid #8884;text-align:right!important}"
    ".offshoot .text{text-align:left!important}"
    ".offshoot .bar{position:relative;height:.8em;width:22em;background:#8882}"
    ".offshoot .bar i{position:absolute;top:0;bottom:0;background:#3a7bd5}"
    ".offshoot .facts b{font-size:1.2em;margin:0 .2em 0 1em}</style>"
)


class Report(Dict[str, Any]):
    """What a command found: the fields of its ``--json`` output.

    ``print(report)`` shows the command line's tables; a notebook shows them as HTML.

    Attributes
    ----------
    text : str
        The command line's tables.
    """

    text: str

    def __init__(self, fields: Dict[str, Any], text: str) -> None:
        super().__init__(fields)
        self.text = text

    @classmethod
    def _of(cls, said: Tuple[str, str], without: Sequence[str] = ()) -> "Report":
        fields = json.loads(said[0])
        for name in without:
            fields.pop(name, None)
        return cls(fields, said[1])

    def records(self, name: Optional[str] = None) -> List[Dict[str, Any]]:
        """Rows for ``pandas.DataFrame(report.records())``.

        Parameters
        ----------
        name : str, optional
            Field that holds the rows, such as ``operators`` or ``points``. Default: the first field that is a list of rows.
        """
        if name is None:
            for value in self.values():
                if _is_table(value):
                    return [dict(row) for row in value]
            return []
        rows = self[name]
        if not _is_table(rows) and rows != []:
            raise KeyError(f"{name}: not a list of rows")
        return [dict(row) for row in rows]

    def facts(self) -> Dict[str, Any]:
        """The fields that are numbers, texts or truth values."""
        return {key: value for key, value in self.items() if isinstance(value, (int, float, str, bool))}

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        parts = [_STYLE, table(["", ""], [[_words(key), value] for key, value in self.facts().items()])]
        # The first table is what the report is about.
        state = " open"
        for key, value in self.items():
            if _is_table(value):
                parts.append(f"<details{state}><summary>{html.escape(_words(key))}</summary>{of_rows(value)}</details>")
                state = ""
        return wrapped(*parts)


class MemoryMap(Report):
    """Where every operator writes its output in the arena (bytes)."""

    def _repr_html_(self) -> str:
        arena = max(int(self["arena_bytes"]), 1)
        rows = []
        for row in self["operators"]:
            left, width = 100.0 * row["offset"] / arena, 100.0 * row["bytes"] / arena
            bar = f'<div class="bar"><i style="left:{left:.2f}%;width:{max(width, 0.4):.2f}%"></i></div>'
            rows.append([row["name"], row["kind"], row["offset"], row["bytes"], Html(bar)])
        title = f"arena: <b>{arena:,}</b> bytes, lower bound {int(self['arena_lower_bound_bytes']):,}"
        return wrapped(_STYLE, title, table(["operator", "kind", "offset", "bytes", ""], rows))


class Html(str):
    """Text that is HTML already."""


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(row, dict) for row in value)


def _words(key: str) -> str:
    return key.replace("_", " ")


def _cell(value: Any) -> str:
    if isinstance(value, Html):
        return value
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (dict, list)):
        value = json.dumps(value)
    return html.escape(str(value))


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """An HTML table; texts are escaped."""
    lines = [list(row) for row in rows]
    heads = [html.escape(_words(cell)) for cell in head]
    # Columns of texts begin at the left, numbers end at the right.
    texts = [any(isinstance(row[i], str) for row in lines) for i in range(len(heads))]
    kind = [' class="text"' if text else "" for text in texts]
    top = "".join(f"<th{k}>{cell}</th>" for k, cell in zip(kind, heads))
    body = "".join("<tr>" + "".join(f"<td{k}>{_cell(c)}</td>" for k, c in zip(kind, row)) + "</tr>" for row in lines)
    return f"<table><tr>{top}</tr>{body}</table>"


def of_rows(rows: List[Dict[str, Any]]) -> str:
    """An HTML table of dictionaries."""
    keys: List[str] = []
    for row in rows:
        keys += [key for key in row if key not in keys]
    return table(keys, [[row.get(key) for key in keys] for row in rows])


def wrapped(*parts: str) -> str:
    """HTML for a notebook's cell."""
    return f'<div class="offshoot">{"".join(parts)}</div>'
