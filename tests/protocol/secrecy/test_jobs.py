"""Confidential jobs: workers with a lease get the key, nobody else does, and it outlives its replicas."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hearthmesh.crypto.certificates import Role, Vouched
from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.sharing import recover
from hearthmesh.protocol.codec import encode_message
from hearthmesh.protocol.cost import signatures_in
from hearthmesh.protocol.effects import Penalise
from hearthmesh.protocol.events import CancelJob, FollowJob, ListJobs, SubmitJob
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.messages import KeyRefused, KeyShare, KeyWanted, ShareGiven, SharePart, ShareWanted
from hearthmesh.protocol.records import Grant, RecordKind, ReplicaSet, sign_record
from hearthmesh.protocol.secrecy.keeping import SHARE_ROW
from hearthmesh.protocol.secrecy.keys import job_key, key_digest, own_share, seal_secret, share_for
from tests.protocol.cluster import SECOND, WARM, Cluster, SimNode, cold, output_of

CLINIC = Vouched("St. Anna", "Linz", ("clinic",))


class Ward:
    """Replicas that do not work, workers that keep nothing, and a client."""

    def __init__(self, workers: int = 2, keepers: int = 3, seed: int = 1, **vouched: Vouched) -> None:
        self.cluster = Cluster(seed=seed)
        add = self.cluster.add
        self.keepers = [add(f"k{number}", Role.REPLICA) for number in range(keepers)]
        self.workers = [
            add(f"w{n}", Role.WORKER, cold(), vouched=vouched.get(f"w{n}", Vouched())) for n in range(workers)
        ]
        self.client = self.cluster.client()
        self.job_id = b""
        self.cluster.run(3 * SECOND)

    def submit(self, tasks: int, **changes: Any) -> None:
        self.cluster.feed(self.client, SubmitJob(self.cluster.secret_spec(self.client, tasks, **changes)))
        self.job_id = next(iter(self.client.mesh.submitter.jobs))
        self.cluster.run_until(lambda: len(self.kept()) == 3)

    def finish(self) -> None:
        self.cluster.feed(self.client, FollowJob(self.job_id, (), True, tuple(self.client.signed)))
        self.cluster.run_until(lambda: bool(self.client.noted("job.accepted")))

    def kept(self) -> list[SimNode]:
        """Replicas that have a share on disk."""
        alive = [node for node in self.keepers if node.alive]
        return [node for node in alive if (self.job_id, SHARE_ROW, b"") in node.rows]

    def share(self, node: SimNode) -> Any:
        return own_share(node.mesh.ctx, self.job_id, node.rows[self.job_id, SHARE_ROW, b""])

    @property
    def key(self) -> bytes:
        secrecy = self.client.mesh.submitter.jobs[self.job_id].state.spec.secrecy
        assert secrecy is not None
        return job_key(self.client.identity, secrecy.salt)

    def send(self, sender: SimNode, recipient: SimNode, message: Any) -> None:
        self.cluster._send(sender, recipient.id, message)


def test_workers_run_a_confidential_job_and_only_its_submitter_reads_the_results() -> None:
    ward = Ward()
    ward.submit(40)
    ward.finish()
    assert {index: ward.client.results[index] for index in range(40)} == {
        index: output_of(index) for index in range(40)
    }
    assert all(worker.opened.get(ward.job_id) == "taxes" for worker in ward.workers if worker.executed)
    plain = [output_of(index) for index in range(40)] + [b"taxes", b"--secret", ward.key]
    for keeper in ward.keepers:
        assert not any(secret in row for row in keeper.rows.values() for secret in plain)
    assert not any(node.penalties for node in ward.cluster.nodes.values())


def test_nothing_that_travels_or_is_noted_holds_the_key_a_share_or_an_output(monkeypatch: pytest.MonkeyPatch) -> None:
    ward, frames = Ward(), []
    send = ward.cluster._send
    monkeypatch.setattr(
        ward.cluster,
        "_send",
        lambda node, peer, message: (frames.append(encode_message(message)), send(node, peer, message)),
    )
    ward.submit(10)
    ward.finish()
    secrets = [ward.key, *(ward.share(node).y for node in ward.kept()), *map(output_of, range(10)), b"taxes"]
    assert frames and not [secret for secret in secrets if any(secret in frame for frame in frames)]


def test_a_key_is_wiped_with_the_last_task() -> None:
    ward = Ward()
    ward.submit(10)
    held = []
    ward.cluster.run_until(lambda: any(worker.noted("key.had") for worker in ward.workers))
    for worker in ward.workers:
        held += [key for key in [worker.mesh.worker.keys.key(ward.job_id)] if key is not None]
    assert held
    ward.finish()
    ward.cluster.run(2 * SECOND)
    assert all(not worker.mesh.worker.keys.held for worker in ward.workers)
    assert all(key == bytes(32) for key in held)
    assert all(worker.noted("key.wiped") for worker in ward.workers if worker.noted("key.had"))


def test_a_cancelled_job_wipes_its_key_at_once() -> None:
    ward = Ward()
    ward.submit(1_000)
    ward.cluster.run_until(lambda: any(worker.executed for worker in ward.workers))
    ward.cluster.feed(ward.client, CancelJob(ward.job_id))
    ward.cluster.run(SECOND)
    assert all(not worker.mesh.worker.keys.held for worker in ward.workers)


def test_any_two_replicas_together_have_the_key_and_no_one_has() -> None:
    ward = Ward()
    ward.submit(1)
    shares = [ward.share(node) for node in ward.kept()]
    assert len({share.x for share in shares}) == 3
    for one in shares:
        for other in shares:
            if one != other:
                assert recover((one, other)) == ward.key
        assert one.y != ward.key


def test_a_replica_of_the_job_submitted_again_cannot_put_its_two_shares_together() -> None:
    ward = Ward()
    ward.submit(10)
    ctx, spec = ward.client.mesh.ctx, ward.client.mesh.submitter.jobs[ward.job_id].state.spec
    keeper = ward.keepers[0]
    # As with a renewed certificate: all is the same but the id.
    again = sign_record(ward.client.identity, RecordKind.SPEC, replace(spec, certificate=b"renewed"))
    assert again.id != ward.job_id and again.body.secrecy == spec.secrecy
    ids = ward.job_id, again.id
    shares = [own_share(keeper.mesh.ctx, job_id, share_for(ctx, job_id, spec, keeper.id)) for job_id in ids]
    assert recover(shares) != ward.key


def test_who_may_be_shown_the_job_is_asked_for_and_nobody_else_is_given_its_tasks() -> None:
    ward = Ward(workers=3, w1=CLINIC)
    ward.submit(20, terms={"classes": ("clinic",), "owners": ("St. Anna",)})
    ward.finish()
    assert sorted(ward.workers[1].executed) == list(range(20))
    assert not ward.workers[0].executed and not ward.workers[2].executed


def test_a_job_that_no_worker_may_be_shown_is_refused_with_a_reason() -> None:
    ward = Ward()
    spec = ward.cluster.secret_spec(ward.client, 1, terms={"owners": ("nobody",)})
    ward.cluster.feed(ward.client, SubmitJob(spec))
    assert "has the owner, classes and record" in ward.client.noted("job.rejected")[0]["reason"]


def test_a_mesh_whose_only_workers_would_keep_the_job_refuses_it() -> None:
    cluster = Cluster()
    cluster.workers(3)
    client = cluster.client()
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.secret_spec(client, 1)))
    assert "who keeps a confidential job may not run it" in client.noted("job.rejected")[0]["reason"]


def test_a_mesh_with_one_replica_refuses_a_job_whose_key_nobody_could_put_together() -> None:
    ward = Ward(keepers=1)
    ward.cluster.feed(ward.client, SubmitJob(ward.cluster.secret_spec(ward.client, 1)))
    assert "among 2 replicas" in ward.client.noted("job.rejected")[0]["reason"]


# -- what cannot be opened ---------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["adaptive", "quorum(2)"])
def test_a_result_that_cannot_be_opened_counts_for_nothing_and_its_worker_is_caught(policy: str) -> None:
    ward = Ward(workers=4)
    ward.workers[0].seals_badly = True
    ward.submit(40, verification=policy)
    ward.finish()
    assert ward.client.results == {index: output_of(index) for index in range(40)}
    bad = ward.workers[0]
    assert bad.executed and ward.client.mesh.trust.standing(bad.id, "wasm").wrong  # type: ignore[union-attr]


def test_a_result_that_cannot_be_opened_waits_for_another_worker_where_there_is_none() -> None:
    ward = Ward(workers=1)
    ward.workers[0].seals_badly = True
    ward.submit(4, verification="adaptive")
    ward.cluster.feed(ward.client, FollowJob(ward.job_id, (), True))
    ward.cluster.run(120 * SECOND)
    assert len(ward.workers[0].executed) == 4 and not ward.client.results
    ward.cluster.add("late", Role.WORKER, cold(), vouched=Vouched())
    ward.cluster.add("later", Role.WORKER, cold(), vouched=Vouched())
    ward.cluster.run_until(lambda: bool(ward.client.noted("job.accepted")))
    assert ward.client.results == {index: output_of(index) for index in range(4)}


@pytest.mark.parametrize("policy", ["adaptive", "spot(0.1)", "quorum(2)"])
def test_a_large_output_counts_only_with_a_blob_that_can_be_opened(policy: str) -> None:
    ward = Ward(workers=4)
    for worker in ward.workers:
        worker.gives_blobs = True
    ward.workers[0].gives_bad_blobs = True
    ward.submit(40, verification=policy)
    ward.finish()
    assert ward.client.results == {index: output_of(index) for index in range(40)}
    bad = ward.workers[0]
    assert {note["worker"] for note in ward.client.noted("result.spoiled")} == {bad.id}
    assert ward.client.mesh.trust.standing(bad.id, "wasm").wrong  # type: ignore[union-attr]


# -- who asks without a right ------------------------------------------------------------------------------


def answers_to(ward: Ward, asker: SimNode, keeper: SimNode, message: KeyWanted) -> list[Any]:
    """What the keeper answers the asker."""
    ward.cluster.run(SECOND)
    heard: list[Any] = []
    send = ward.cluster._send

    def listen(node: SimNode, peer: bytes, sent: Any) -> None:
        if node is keeper and peer == asker.id and isinstance(sent, KeyShare | KeyRefused):
            heard.append(sent)
        send(node, peer, sent)

    ward.cluster._send = listen  # type: ignore[method-assign]
    ward.send(asker, keeper, message)
    ward.cluster.run(SECOND)
    ward.cluster._send = send  # type: ignore[method-assign]
    return heard


def grant_for(ward: Ward, holder: SimNode, author: Identity, epoch: int = 10) -> bytes:
    body = Grant(ward.job_id, 0, 1, epoch, holder.id, 3 * SECOND)
    return sign_record(author, RecordKind.GRANT, body).raw


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("granted by nobody who keeps the job", "stale-epoch"),
        ("granted to another", "wrong-author"),
        ("no longer live", "stale-epoch"),
        ("a replica's own", "not-cleared"),
        ("no worker's certificate", "not-admitted"),
        ("not signed", "bad-signature"),
    ],
)
def test_a_node_without_a_live_grant_of_its_own_is_refused(case: str, reason: str) -> None:
    ward = Ward()
    for worker in ward.workers:
        ward.cluster.feed(worker, WARM)
    ward.submit(1)
    thief, other = ward.workers
    keeper, second = ward.kept()[:2]
    certificate = thief.mesh.ctx.certificate
    asker = thief
    if case == "granted by nobody who keeps the job":
        grant = grant_for(ward, thief, other.identity)
    elif case == "granted to another":
        grant = grant_for(ward, other, second.identity)
    elif case == "no longer live":
        grant = grant_for(ward, thief, second.identity)
        kept = keeper.mesh.replica.jobs[ward.job_id]
        newer = Grant(ward.job_id, 0, 1, 11, other.id, 3 * SECOND)
        kept.state.merge(sign_record(second.identity, RecordKind.GRANT, newer))
    elif case == "a replica's own":
        asker = second
        grant, certificate = grant_for(ward, second, second.identity), second.mesh.ctx.certificate
        # Though it were admitted as a worker, too.
        keeper.mesh.ctx.admitted = lambda *_: True  # type: ignore[method-assign]
    elif case == "no worker's certificate":
        grant, certificate = grant_for(ward, thief, second.identity), ward.client.mesh.ctx.certificate
    else:
        grant = bytearray(grant_for(ward, thief, second.identity))
        grant[-1] ^= 1
        grant = bytes(grant)
    heard = answers_to(ward, asker, keeper, KeyWanted(7, ward.job_id, grant, certificate))
    assert heard == [KeyRefused(7, ward.job_id, reason)]
    assert not keeper.noted("share.released")


def test_a_node_with_a_live_grant_is_given_a_share_that_only_it_opens() -> None:
    ward = Ward()
    for worker in ward.workers:
        ward.cluster.feed(worker, WARM)
    ward.submit(1)
    worker, keeper = ward.workers[0], ward.kept()[0]
    grant = grant_for(ward, worker, ward.kept()[1].identity)
    (heard,) = answers_to(ward, worker, keeper, KeyWanted(7, ward.job_id, grant, worker.mesh.ctx.certificate))
    assert isinstance(heard, KeyShare) and ward.share(keeper).y not in heard.sealed


# -- replicas come and go ----------------------------------------------------------------------------------


def test_a_replaced_replicas_new_share_works_with_an_old_one_while_the_client_is_away() -> None:
    ward = Ward(keepers=5)
    for worker in ward.workers:
        ward.cluster.feed(worker, WARM)
    ward.submit(6)
    dead, *staying = ward.kept()
    ward.cluster.kill(ward.client)
    ward.cluster.kill(dead)
    ward.cluster.run_until(lambda: len(ward.kept()) == 3, within_us=60 * SECOND)
    (heir,) = [node for node in ward.kept() if node not in staying]
    for old in (dead, *staying):
        assert recover((ward.share(heir), ward.share(old))) == ward.key
    # The new share is what is needed: of the first three, one is left.
    ward.cluster.kill(staying[0])
    for worker in ward.workers:
        ward.cluster.feed(worker, cold())
    ward.cluster.run_until(lambda: sum(len(worker.executed) for worker in ward.workers) >= 6)


def test_a_client_that_comes_back_gives_a_newcomer_its_share() -> None:
    ward = Ward(keepers=5)
    ward.submit(6)
    keeper = ward.kept()[0]
    del keeper.rows[ward.job_id, SHARE_ROW, b""]
    keeper.mesh.replica.jobs[ward.job_id].share = b""
    ward.cluster.blocked = lambda _a, _b, message: isinstance(message, ShareWanted)
    ward.cluster.restart(ward.client)
    ward.cluster.feed(ward.client, ListJobs(ward.job_id))
    ward.cluster.run_until(lambda: (ward.job_id, SHARE_ROW, b"") in keeper.rows)
    assert recover((ward.share(keeper), ward.share(ward.kept()[1]))) == ward.key


def test_the_submitters_share_replaces_one_that_a_helper_made_wrongly() -> None:
    ward = Ward()
    ward.submit(6)
    keeper, other = ward.kept()[:2]
    kept = keeper.mesh.replica.jobs[ward.job_id]
    kept.share = seal_secret(keeper.mesh.ctx, keeper.id, bytes(32), "share", ward.job_id)
    ward.cluster.restart(ward.client)
    ward.cluster.feed(ward.client, ListJobs(ward.job_id))
    ward.cluster.run(3 * SECOND)
    assert recover((ward.share(keeper), ward.share(other))) == ward.key
    assert kept.share == keeper.rows[ward.job_id, SHARE_ROW, b""]


def test_a_newcomer_knows_of_a_replica_that_came_and_went_before_it() -> None:
    ward = Ward(keepers=5)
    ward.submit(2)
    first = ward.kept()[0]
    gone, newcomer = [node for node in ward.keepers if node not in ward.kept()]
    state = first.mesh.replica.jobs[ward.job_id].state
    members = (*state.replicas[:2], newcomer.id)
    author = next(node for node in ward.kept() if node.id == members[0])
    # Its author signs for both changes, so the path to the newest set leaves out the one between.
    body = ReplicaSet(ward.job_id, state.replica_epoch + 2, members, (state.replicas[2], gone.id))
    state.merge(sign_record(author.identity, RecordKind.REPLICA_SET, body))
    seen = JobState(state.spec_record)
    for record in state.replica_path():
        seen.merge(record)
    assert seen.replicas == members and seen.may_have_share(gone.id)
    assert not seen.may_have_share(ward.workers[0].id)


def test_one_replica_cannot_put_a_friend_into_a_living_ones_seat_to_get_a_second_share() -> None:
    ward = Ward(keepers=4)
    for worker in ward.workers:
        ward.cluster.feed(worker, WARM)
    ward.submit(2)
    traitor, victim, third = ward.kept()
    friend = next(node for node in ward.keepers if node not in ward.kept())
    kept = traitor.mesh.replica.jobs[ward.job_id]
    assert kept.state.replica_record is not None
    old = kept.state.replica_record.body
    members = tuple(friend.id if node == victim.id else node for node in old.members)
    body = ReplicaSet(ward.job_id, old.epoch + 1, members, (victim.id,))
    record = sign_record(traitor.identity, RecordKind.REPLICA_SET, body)
    traitor.mesh.replica._merge(kept, record, traitor.id, ward.cluster.now_us)
    traitor.mesh.replica._tell_replicas(kept, kept.state.context())
    ward.cluster.run(30 * SECOND)
    # However often it asks, nobody but the traitor would help it, and that makes no share.
    assert ward.job_id in friend.mesh.replica.jobs
    assert (ward.job_id, SHARE_ROW, b"") not in friend.rows
    assert not third.noted("share.released")


def test_strangers_cannot_give_shares_nor_take_part_in_making_them() -> None:
    ward = Ward(keepers=4)
    ward.submit(2)
    keeper, second = ward.kept()[:2]
    stranger = next(node for node in ward.keepers if node not in ward.kept())
    before = keeper.rows[ward.job_id, SHARE_ROW, b""]
    ward.send(stranger, keeper, ShareGiven(ward.job_id, bytes(81)))
    ward.send(stranger, keeper, ShareWanted(ward.job_id, 1, (keeper.id, second.id)))
    ward.send(stranger, keeper, SharePart(ward.job_id, 1, stranger.id, (keeper.id, stranger.id), bytes(81)))
    ward.cluster.run(SECOND)
    assert keeper.rows[ward.job_id, SHARE_ROW, b""] == before
    assert [effect.peer for effect in keeper.penalties if isinstance(effect, Penalise)] == [stranger.id]


def test_a_replica_with_a_damaged_share_does_not_keep_workers_from_the_key() -> None:
    ward = Ward()
    for worker in ward.workers:
        ward.cluster.feed(worker, WARM)
    ward.submit(5)
    damaged = ward.kept()[0]
    context = damaged.mesh.ctx
    spec = ward.client.mesh.submitter.jobs[ward.job_id].state.spec
    # A share of another line, sealed as it should be.
    assert spec.secrecy is not None
    wrong = share_for(ward.client.mesh.ctx, bytes(32), spec, damaged.id)
    assert own_share(context, bytes(32), wrong)
    damaged.mesh.replica.jobs[ward.job_id].share = seal_secret(context, damaged.id, bytes(32), "share", ward.job_id)
    for worker in ward.workers:
        ward.cluster.feed(worker, cold())
    ward.finish()
    assert len(ward.client.results) == 5


# -- verification ------------------------------------------------------------------------------------------


def test_confidential_results_are_compared_and_a_liar_is_caught_but_nobody_else_can_try_it() -> None:
    ward = Ward(workers=5)
    ward.workers[0].lies = True
    ward.submit(60, verification="quorum(2)")
    ward.finish()
    assert all(ward.client.results[index] == output_of(index) for index in range(60))
    assert ward.workers[0].executed
    assert {note["wrong"] for note in ward.client.noted("result.disputed")} == {ward.workers[0].id}
    assert not ward.client.noted("fraud.accused")


def test_numbers_within_a_tolerance_are_compared_in_the_clear() -> None:
    ward = Ward(workers=4)
    ward.submit(10, verification="quorum(2)", comparator="numeric(abs=0.5)")
    ward.finish()
    assert len(ward.client.results) == 10


def test_who_copies_anothers_sealed_answer_is_found_out() -> None:
    """A worker that delivers, under its own name, outputs and box as another sealed them."""
    ward = Ward(workers=4)
    copier, victim = ward.workers[:2]
    sealed: dict[int, bytes] = {}
    boxes: list[Any] = []
    finish = copier.mesh.worker.on_finished

    def spy(event: Any, now_us: int) -> None:
        boxes.append(event.box)
        sealed.update(enumerate(event.outputs))
        spied(event, now_us)

    spied = victim.mesh.worker.on_finished
    victim.mesh.worker.on_finished = spy  # type: ignore[method-assign]

    def copy(event: Any, now_us: int) -> None:
        import msgspec

        if boxes:
            outputs = tuple(sealed.get(offset, output) for offset, output in enumerate(event.outputs))
            event = msgspec.structs.replace(event, outputs=outputs, box=boxes[0])
        finish(event, now_us)

    copier.mesh.worker.on_finished = copy  # type: ignore[method-assign]
    ward.submit(80, verification="quorum(2)")
    ward.finish()
    assert boxes and all(ward.client.results[index] == output_of(index) for index in range(80))
    assert copier.id in {note["wrong"] for note in ward.client.noted("result.disputed")}


def test_a_digest_of_the_key_is_no_digest_of_anything_else() -> None:
    assert key_digest(bytes(32)) != key_digest(bytes(31) + b"\1")


def test_asking_for_a_key_costs_as_much_as_it_makes_the_replica_do() -> None:
    assert signatures_in(KeyWanted(1, bytes(32), b"", b"")) > signatures_in(KeyShare(1, bytes(32), b"")) > 0
