"""The page that a browser gets from a fresh server."""

from __future__ import annotations

from html.parser import HTMLParser

from ucm.web.api_index import render

DOCUMENT = {
    "info": {"title": "<UCM>", "version": "1"},
    "paths": {
        "/b": {"post": {"tags": ["writing"], "summary": "Make", "x-permissions": ["write:b"]}},
        "/a": {"get": {"tags": ["reading"], "summary": "Read", "security": []}},
    },
}


class Reader(HTMLParser):
    """Collects text, links and the anchors they lead to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.ids: set[str] = set()
        self.fragments: set[str] = set()
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        if identity := values.get("id"):
            self.ids.add(identity)
        href = values.get("href") or ""
        if href.startswith("#"):
            self.fragments.add(href[1:])

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def test_operations_are_grouped_and_say_who_may_call_them() -> None:
    page = Reader(render(DOCUMENT, document_path="/d.json", origin="https://ca.example"))
    assert page.fragments == page.ids == {"group-reading", "group-writing"}
    for text in ("<UCM> 1", "/a", "Read", "public", "/b", "Make", "write:b"):
        assert text in page.text
    assert "script" not in page.tags


def test_a_browser_is_led_to_it(shared) -> None:
    client = shared.app.test_client()
    start = client.get("/")
    assert start.status_code == 302
    page = client.get(start.headers["Location"])
    assert page.mimetype == "text/html"
    assert b"/api/v2/certificates" in page.data
    style = client.get("/api/docs/style.css")
    assert style.mimetype == "text/css"
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
