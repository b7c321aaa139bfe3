"""Templates pinned to authorities."""

from __future__ import annotations

from ucm.web.v2.schemas import PinnableTemplate

PATH = "/api/v2/templates"


def own_template(tree, name="Pinned"):
    made = tree.admin.post(PATH, {"name": name, "template_type": "web_server"})
    assert made.status_code == 201, made.json
    return made.json["data"]["id"]


def pinned(tree, ca_id):
    rows = tree.viewer.get(f"/api/v2/cas/{ca_id}/templates").json["data"]
    for row in rows:
        PinnableTemplate.model_validate(row, strict=True, extra="forbid")
    return [row["id"] for row in rows if row["is_pinned"]]


def test_a_template_is_pinned_and_unpinned(tree):
    template = own_template(tree)
    pin = f"/api/v2/cas/{tree.ca}/templates/{template}/pin"
    made = tree.admin.post(pin)
    assert made.status_code == 201, made.json
    assert made.json["data"]["pinned_by"] == "admin"
    assert pinned(tree, tree.ca) == [template]
    assert pinned(tree, tree.root) == []
    again = tree.admin.post(pin)
    assert again.status_code == 409
    assert "already" in again.json["error"]
    assert pinned(tree, tree.ca) == [template]
    gone = tree.admin.delete(pin)
    assert (gone.status_code, gone.json["data"]["is_pinned"]) == (200, False)
    assert pinned(tree, tree.ca) == []
    assert tree.admin.delete(pin).status_code == 404
    for action in ("template_pinned_to_ca", "template_unpinned_from_ca"):
        [row] = [one for one in tree.installation.audit(action) if one.success]
        assert (row.resource_type, row.resource_id) == ("ca", str(tree.ca))
        assert row.details == {"template_id": template, "template": "Pinned"}


def test_the_list_of_templates_tells_the_pins_of_an_authority(tree):
    template = own_template(tree)
    tree.admin.post(f"/api/v2/cas/{tree.ca}/templates/{template}/pin")
    found = tree.viewer.get(f"{PATH}?ca_id={tree.ca}&search=pinned").json["data"]
    assert [(row["id"], row["is_pinned"]) for row in found] == [(template, True)]
    assert "is_pinned" not in tree.viewer.get(f"{PATH}?search=pinned").json["data"][0]
    assert tree.viewer.get(f"{PATH}?ca_id=98765").status_code == 404


def test_pins_go_with_the_template_and_with_the_authority(tree):
    first, second = own_template(tree, "First"), own_template(tree, "Second")
    for ca_id in (tree.root, tree.ca):
        for template in (first, second):
            path = f"/api/v2/cas/{ca_id}/templates/{template}/pin"
            assert tree.admin.post(path).status_code == 201
    assert tree.admin.delete(f"{PATH}/{first}").status_code == 204
    assert pinned(tree, tree.root) == [second]
    assert tree.admin.delete(f"/api/v2/cas/{tree.ca}").status_code == 204
    assert tree.admin.delete(f"{PATH}/{second}").status_code == 204
    assert pinned(tree, tree.root) == []


def test_both_must_exist_and_the_caller_may_change_both(tree):
    template = own_template(tree)
    assert tree.admin.post(f"/api/v2/cas/98765/templates/{template}/pin").status_code == 404
    assert tree.admin.post(f"/api/v2/cas/{tree.ca}/templates/98765/pin").status_code == 404
    assert tree.viewer.get("/api/v2/cas/98765/templates").status_code == 404
    half = tree.installation.with_key("admin", "write:cas", "read:cas")
    refused = half.post(f"/api/v2/cas/{tree.ca}/templates/{template}/pin")
    assert refused.status_code == 403
    assert refused.json["missing_permissions"] == ["write:templates"]
    assert pinned(tree, tree.ca) == []
