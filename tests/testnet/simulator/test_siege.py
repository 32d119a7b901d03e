"""What many identities buy, in small."""

from __future__ import annotations

import pytest

from hearthmesh.testnet.simulator.siege import eclipse, seats


def test_fresh_identities_get_fewer_seats_than_their_share_and_old_ones_about_theirs() -> None:
    old, new = (seats(0.33, weight=weight, boasts=False, jobs=60, candidates=60) for weight in (4.0, 1.0))
    boast = seats(0.33, weight=1.0, boasts=True, jobs=60, candidates=60)
    assert new.seats < boast.seats < old.seats < 0.45
    assert new.majority <= old.majority and new.all_three < 0.05


@pytest.mark.parametrize(("honest_contacts", "known"), [(0, 0.0), (1, 1.0)])
def test_one_honest_contact_shows_a_surrounded_client_the_whole_mesh(honest_contacts: int, known: float) -> None:
    found = eclipse(2, honest_contacts, nodes=8, tasks=8)
    assert found.known == known
    if honest_contacts:
        assert found.complete
    else:
        assert found.accepted == found.wrong, "it met nobody who was honest"
