"""A page that lists the API's operations, for people: no script, no third-party file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, redirect, request
from flask_openapi3 import OpenAPI
from markupsafe import Markup

from ucm.api.web import public

INDEX_PATH = "/api/docs"
STYLE_PATH = "/api/docs/style.css"

_METHODS = ("get", "post", "put", "patch", "delete")
_REASON = "the description of the API holds nothing secret"

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --link: #1558d6; }
@media (prefers-color-scheme: dark) { :root { --link: #8ab4f8; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1.5rem; }
a { color: var(--link); }
h2 { margin: 2.5rem 0 .5rem; font-size: 1.15rem; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
table { width: 100%; border-collapse: collapse; table-layout: fixed; }
th, td { text-align: left; vertical-align: top; padding: .35rem .5rem;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th:nth-child(1), td:nth-child(1) { width: 5rem; }
th:nth-child(2), td:nth-child(2) { width: 45%; }
code { font: .9em ui-monospace, monospace; }
pre { background: var(--soft); padding: .75rem; overflow-x: auto; border-radius: .4rem; }
small { opacity: .85; }
@media (max-width: 40rem) {
  body { padding: 1rem; }
  thead { position: absolute; clip-path: inset(50%); }
  table, tbody, tr, td { display: block; }
  tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  th:nth-child(n), td:nth-child(n) { width: auto; border: 0; padding: .1rem 0; }
}
"""
_PAGE = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} {version}: REST API</title>
<link rel="stylesheet" href="{style}">
</head>
<body>
<header>
<h1>{title} {version}</h1>
<p>This server is a certification authority with a REST API. The machine-readable description
(OpenAPI 3.1) is <a href="{document}">{document}</a>; errors are RFC 9457 problem documents.</p>
<p>Sign in for a session, or make an API key and send it with every request:</p>
<pre><code>curl -H "X-API-Key: $KEY" {origin}/api/v2/cas</code></pre>
</header>
<nav aria-label="Groups of operations"><ul>
{links}</ul></nav>
<main>
{sections}</main>
</body>
</html>
""")
_LINK = Markup('<li><a href="#{id}">{name}</a></li>\n')
_SECTION = Markup("""<section aria-labelledby="{id}">
<h2 id="{id}">{name}</h2>
<table>
<thead><tr>
<th scope="col">Method</th><th scope="col">Path</th><th scope="col">Purpose</th>
</tr></thead>
<tbody>
{rows}</tbody>
</table>
</section>
""")
_ROW = Markup(
    "<tr><td>{method}</td><td><code>{path}</code></td>"
    "<td>{summary}<br><small>{permission}</small></td></tr>\n"
)


def register(app: OpenAPI, *, document: Callable[[], dict[str, Any]], document_path: str) -> None:
    """Serve the page and its style; ``/`` leads there."""

    @public(_REASON)
    def api_index() -> Response:
        origin = request.host_url.rstrip("/")
        page = render(document(), document_path=document_path, origin=origin)
        return Response(page, mimetype="text/html")

    @public(_REASON)
    def api_index_style() -> Response:
        return Response(_STYLE, mimetype="text/css")

    @public("a pointer to the page that describes the API")
    def start() -> Any:
        return redirect(INDEX_PATH)

    app.add_url_rule(INDEX_PATH, "api_index", api_index)
    app.add_url_rule(STYLE_PATH, "api_index_style", api_index_style)
    app.add_url_rule("/", "start", start)


def render(document: dict[str, Any], *, document_path: str, origin: str) -> str:
    """The page for an OpenAPI document; operations are grouped by their first tag."""
    groups: dict[str, list[Markup]] = {}
    for path, item in sorted(document["paths"].items()):
        for method in _METHODS:
            if method in item:
                operation = item[method]
                tag = next(iter(operation.get("tags", ())), "other")
                groups.setdefault(tag, []).append(_row(method, path, operation))
    names = sorted(groups)
    info = document["info"]
    return str(
        _PAGE.format(
            title=info["title"],
            version=info["version"],
            style=STYLE_PATH,
            document=document_path,
            origin=origin,
            links=Markup("").join(_LINK.format(id=_anchor(n), name=n) for n in names),
            sections=Markup("").join(
                _SECTION.format(id=_anchor(n), name=n, rows=Markup("").join(groups[n]))
                for n in names
            ),
        )
    )


def _row(method: str, path: str, operation: dict[str, Any]) -> Markup:
    permissions = ", ".join(operation.get("x-permissions", ()))
    return _ROW.format(
        method=method.upper(),
        path=path,
        summary=operation.get("summary") or "",
        permission=permissions or ("public" if operation.get("security") == [] else "signed in"),
    )


def _anchor(name: str) -> str:
    return "group-" + "".join(c if c.isalnum() else "-" for c in name.lower())
