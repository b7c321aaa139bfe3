"""A file that outgrows its subject is split by subject, before it is unreadable."""

LIMIT = 600


def test_no_file_is_longer_than_the_limit(sources):
    long = {
        source.path: lines
        for source in sources
        if source.path.startswith(("ucm/", "plugins/"))
        and (lines := source.text.count("\n")) > LIMIT
    }
    assert not long, f"longer than {LIMIT} lines, split them by subject: {long}"


def test_no_module_is_named_for_what_it_is_not(production):
    """`utils` and `helpers` gather what nobody placed; a module is named for what it holds."""
    names = ("utils", "util", "helpers", "helper", "misc", "mixins")
    vague = [
        source.path
        for source in production
        if not set(source.path.removesuffix(".py").split("/")).isdisjoint(names)
    ]
    assert not vague
