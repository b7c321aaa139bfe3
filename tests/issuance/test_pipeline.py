"""The order of steps, and what is left behind when one of them fails."""


def test_smoke(place, root, issuing):
    cert = place.issue(issuing)
    print(cert)
