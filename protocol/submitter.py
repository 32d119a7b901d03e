"""A node as a client: it submits jobs, follows them, checks every result itself, and alone accepts.

It may go away once `durable_replicas` hold the job, and come back as anybody with the same key. How it submits is in
`submission`; here is what it does with the results.
"""

from __future__ import annotations

from ..crypto.certificates import CertificateReason, Role
from .batches import BatchError, check_batch
from .context import Context
from .effects import Publish, Reason, TimerKey
from .events import OutputsCompared, ResultsSpoiled
from .following import Following
from .intervals import IntervalSet
from .job_parts import RejectedRecord
from .jobs import JobState
from .membership import Membership
from .messages import (
    Announce,
    Because,
    Consumed,
    Delivery,
    FindJob,
    FoundJobs,
    Records,
    Rejected,
    Unsubscribe,
    Why,
)
from .own_job import OwnJob
from .record_parts import in_messages
from .records import (
    Cancellation,
    JobSpec,
    Record,
    RecordError,
    RecordKind,
    open_record,
    sign_record,
)
from .secrecy.results import batch_key, open_batch
from .tables import Tables
from .verification.court import Court
from .verification.exhibits import Exhibit, Ruling
from .verification.judging import Judging
from .verification.trust import TrustBook

HAVE_RANGES_MAX = 4096
_OWN_WORDS = (RecordKind.ACCEPTANCE, RecordKind.CANCELLATION, RecordKind.RECHECK)


class Submitter(Following):
    """Sub-machine; `Mesh` routes to it."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables, book: TrustBook, court: Court) -> None:
        super().__init__(ctx, members, tables, Judging(ctx, members, tables, book, court))
        # The last question, and who has not answered it.
        self._asked_why: tuple[int, tuple[bytes, ...]] = (0, ())

    # -- submitting ----------------------------------------------------------------------------------------

    def submit(self, spec: JobSpec, now_us: int, *, follow: bool = False) -> None:
        """Sign, place and send; ends in `Notify("job.submitted")` or `Notify("job.rejected")`.

        follow: its results too, all of them. Who waits for those waits for the first replica alone.
        """
        own = self._submit(spec, now_us, 1 if follow else self._ctx.config.durable_replicas)
        if own is not None and follow:
            self.follow(own.state.job_id, IntervalSet(), True, (), now_us)

    def keepers(self) -> dict[bytes, None]:
        """Replicas of the jobs that are being submitted or followed."""
        current = [own for own in self.jobs.values() if own.following or not own.durable]
        return {node: None for own in current if own.state.replica_record for node in own.state.replicas}

    def settle(self, now_us: int) -> None:
        """Do what was put off."""
        put_off, self._put_off = self._put_off, {}
        for own in [self.jobs[job_id] for job_id in put_off if job_id in self.jobs]:
            uncopied, own.uncopied = own.uncopied, ()
            self._send_submit(own, uncopied, now_us)
            self._ask(own, now_us)
            self._accept(own, now_us)
            left, own.left = own.left, None
            if left is not None and left != own.source:
                self._ctx.send(left, Unsubscribe(own.state.job_id))
                if own.uncancelled.get(left):
                    self._ask_whether_over(own, left)

    def on_rejected(self, peer: bytes, message: Rejected, now_us: int) -> None:
        """A replica that will not hold the job is replaced; when none is left, the reason is the user's."""
        own = self.jobs.get(message.job_id)
        if own is None:
            return
        if own.requests.pop(message.request, None) == peer:
            self._replace(own, peer, message.reason, now_us)
        elif message.request == 0 and own.source == peer:
            self._doubt(own, peer)
            if all(node in own.suspects for node in own.state.replicas if self._members.is_alive(node)):
                # Others have their seats: ask who, and look again with the next heartbeat.
                own.suspects.clear()
                own.source = None
                self.find(own.state.job_id)
            else:
                self._follow_other(own, now_us)

    # -- following -----------------------------------------------------------------------------------------

    def follow(
        self, job_id: bytes, have: IntervalSet, results: bool, signed: tuple[tuple[int, int, bytes], ...], now_us: int
    ) -> None:
        """Receive progress and (results) verified batches; finds the job first if it is not known here.

        have, signed: as in `FollowJob`.
        """
        own = self.jobs.get(job_id)
        if own is None:
            self.find(job_id)
            return
        if own.left is not None:
            # Who asks now is to hear of what was accepted before.
            self.settle(now_us)
        if own.following and not results:
            # Somebody else here follows the results already, and hears of progress too: this one listens along.
            own.listeners += 1
            if own.status is not None:
                self._notify_status(own, own.status, own.source)
            return
        own.following, own.wants_results, own.listeners = True, results, own.listeners + 1
        own.most_done, own.asked_again = 0, 0
        own.has_news(now_us)
        own.verified, own.handed, own.lost = have.copy(), have.copy(), IntervalSet()
        for lo, hi, batch_id in signed:
            own.bind(lo, hi, batch_id)
        own.received.clear()
        self._begin_judging(own)
        self._follow_other(own, now_us)
        self._arm_watch(now_us)

    def unfollow(self, job_id: bytes, now_us: int) -> None:
        """Stop the transfer. What was taken so far is accepted: at once, or where all is here, soon."""
        own = self.jobs.get(job_id)
        if own is not None and own.following:
            own.listeners -= 1
            if own.listeners > 0:
                return
            own.following = False
            own.left, own.source = own.source, None
            self._do_later(own, now_us)
            if own.verified.total < own.state.spec.tasks:
                # More is on its way here, for nobody.
                self.settle(now_us)

    def ask_why(self, peers: tuple[bytes, ...], job_id: bytes, index: int) -> None:
        """Each answer is a note with the request's number."""
        request = self._ctx.next_request()
        self._asked_why = (request, peers)
        self._ctx.notify("why.asked", request=request, count=len(peers))
        for peer in peers:
            self._ctx.send(peer, Why(request, job_id, index))

    def on_because(self, peer: bytes, message: Because) -> None:
        request, peers = self._asked_why
        if message.request == request and peer in peers:
            self._asked_why = (request, tuple(each for each in peers if each != peer))
            self._ctx.notify("why.answered", request=request, peer=peer, sure=message.sure, text=message.text)

    def on_found(self, peer: bytes, message: FoundJobs, now_us: int) -> None:
        for raw in message.context:
            try:
                record = open_record(raw)
            except RecordError:
                self._ctx.penalise(peer, Reason.BAD_SIGNATURE)
                return
            self._learn(record, now_us)
        self._ctx.notify("jobs.found", peer=peer, count=len(message.context))

    def _learn(self, record: Record, now_us: int) -> None:
        if record.kind is RecordKind.SPEC:
            if record.id not in self.jobs and record.author == self._ctx.node_id:
                self.jobs[record.id] = OwnJob(JobState(record), durable=True, found=True)
            return
        if record.kind is not RecordKind.REPLICA_SET:
            return
        own = self.jobs.get(record.body.job_id)
        if own is None:
            return
        try:
            news = own.state.merge(record)
        except RejectedRecord:
            return
        self._give_shares(own)
        self._drop_former(own)
        if news and own.referee is not None and own.referee.unproven:
            for exhibit in list(own.referee.unproven.values()):
                own.referee.hear_copy(exhibit, now_us, self._ctx.wall_us(now_us) // 1_000_000)
            self._follow_referee(own, now_us)

    # -- results, acceptance -------------------------------------------------------------------------------

    def on_delivery(self, peer: bytes, message: Delivery, header: Record, now_us: int) -> bool:
        """Check a batch of a followed job and hand it to the consumer; True if it was for this machine."""
        own = self.jobs.get(header.body.job_id)
        if own is None or not own.following:
            return False
        body = header.body
        if refused := self._ctx.refusal(peer, body.certificate, header.author, Role.WORKER, now_us):
            if refused is not CertificateReason.NOT_YET_VALID:
                # Else it is asked for again, and this node's clock may be right by then.
                self._consume(own, peer, header.id)
            return True
        try:
            batch = check_batch(body, message.columns)
            is_new = own.state.merge(header)
        except (BatchError, RejectedRecord):
            self._ctx.penalise(peer, Reason.BAD_PROOF)
            self._consume(own, peer, header.id)
            return True
        opened = None
        if own.state.spec.secrecy is not None:
            opened = open_batch(header, batch, batch_key(self._ctx.identity, header))
        exhibit = Exhibit(header, batch, message.columns, peer, opened)
        self._pass_accepted(own, exhibit, now_us)
        if body.copy:
            if is_new:
                self._heard_results(own, peer, now_us)
            if own.referee is not None:
                own.referee.hear_copy(exhibit, now_us, self._ctx.wall_us(now_us) // 1_000_000)
                if header.id in own.referee.unproven:
                    # A replica was replaced since: who sends it can show the path to the newest set.
                    self._ctx.send(peer, FindJob(self._ctx.next_request(), own.state.job_id))
                self._follow_referee(own, now_us)
            return True
        parts = self._canonical_parts(own, header)
        self._accept_again(own, header, message, now_us)
        if not parts:
            if header.id in own.aside or not own.is_held(header.id):
                self._consume(own, peer, header.id)
            return True
        self._heard_results(own, peer, now_us)
        for lo, hi in parts:
            own.handed.add(lo, hi)
        if own.referee is None:
            self._hand_over(own, Ruling(exhibit, parts, ()))
        else:
            own.referee.take(exhibit, parts, now_us, self._ctx.wall_us(now_us) // 1_000_000)
            self._follow_referee(own, now_us)
            self._make_room(own, exhibit, now_us)
        return True

    def _make_room(self, own: OwnJob, exhibit: Exhibit, now_us: int) -> None:
        """What waits for a copy is on its way no more: others may come meanwhile, as far as there is room."""
        config, batch_id = self._ctx.config, exhibit.header.id
        if own.referee is None or batch_id not in own.referee.held or exhibit.source != own.source:
            return
        if own.set_aside(batch_id, len(exhibit.header.raw) + len(exhibit.columns), config.held_bytes_max):
            own.consumed.append(batch_id)
            if len(own.consumed) >= config.result_window // 4:
                self._open_window(own)
            self._arm_accept(now_us)

    def on_records(self, message: Records, now_us: int) -> None:
        """What this client accepted, asked for or cancelled in an earlier life; its signature counts, whoever tells."""
        own = self.jobs.get(message.job_id)
        if own is None:
            return
        news = False
        for raw in message.records:
            try:
                known = open_record(raw, check_signature=False)
                if known.kind not in _OWN_WORDS or known.id in own.state.ids:
                    continue
                record = open_record(raw)
                own.state.merge(record)
            except (RecordError, RejectedRecord):
                continue
            if record.kind is RecordKind.ACCEPTANCE:
                own.learn_accepted(record.body.accepted)
                news = True
            elif record.kind is RecordKind.RECHECK and own.referee is not None and own.referee.unasked:
                own.referee.has_asked(record.body, now_us, self._ctx.wall_us(now_us) // 1_000_000)
                self._follow_referee(own, now_us)
        if news and own.following and own.referee is not None and (own.referee.held or own.referee.cases):
            # It came behind results that are judged already: begin anew, knowing better.
            self._judge_anew(own)
            self._follow_other(own, now_us)

    def _begin_judging(self, own: OwnJob) -> None:
        own.rulings.clear()
        own.aside.clear()
        own.aside_bytes = 0
        own.referee = self._judging.referee(own.state)

    def _judge_anew(self, own: OwnJob) -> None:
        """Forget what is held back; what the consumer has, or is being given, stays."""
        own.handed = own.verified.copy()
        for ruling in own.received.values():
            for lo, hi in ruling.parts:
                own.handed.add(lo, hi)
        self._begin_judging(own)

    def _pass_accepted(self, own: OwnJob, exhibit: Exhibit, now_us: int) -> None:
        """Hand over the results that this client accepted from the batch in an earlier life.

        A copy that was accepted comes with all copies first, and again in its turn; then its evidence is here.
        """
        header, referee = exhibit.header, own.referee
        lo, hi = header.body.first, header.body.first + header.body.count
        chosen = [(a, b) for a, b, batch_id in own.state.accepted.pieces(lo, hi) if batch_id == header.id]
        if not chosen or (header.body.copy and referee is not None and not referee.knows_copy(exhibit)):
            return
        parts = tuple(gap for a, b in chosen for gap in own.handed.gaps(a, b))
        for a, b in parts:
            own.handed.add(a, b)
        if parts and referee is not None:
            referee.pass_accepted(exhibit, parts)
            self._follow_referee(own, now_us)
        elif parts:
            self._hand_over(own, Ruling(exhibit, parts, ()))
        elif header.body.copy and not own.is_held(header.id):
            # In its turn it takes a place in the window, as a first result does.
            self._consume(own, exhibit.source, header.id)

    def _hand_over(self, own: OwnJob, ruling: Ruling) -> None:
        """To the consumer; but what it has, from a batch that is lost, is only signed for anew."""
        exhibit = ruling.exhibit
        again = [part for lo, hi in ruling.parts for part in own.lost.overlap(lo, hi)]
        if again:
            delivery = Delivery(exhibit.header.raw, exhibit.columns)
            rest = tuple(gap for lo, hi in ruling.parts for gap in own.lost.gaps(lo, hi))
            ruling = Ruling(exhibit, rest, ruling.evidence)
            for lo, hi in again:
                self._bind_anew(own, lo, hi, exhibit.header.id, delivery)
            if not ruling.parts:
                own.let_go(exhibit.header.id)
                self._consume(own, exhibit.source, exhibit.header.id)
                return
        own.received[exhibit.header.id] = ruling
        self._ctx.notify(
            "job.results",
            job_id=own.state.job_id,
            header=exhibit.header,
            batch=exhibit.batch,
            columns=exhibit.columns,
            parts=ruling.parts,
            source=exhibit.source,
            evidence=tuple((other.header, other.columns) for other in ruling.evidence),
            opened=exhibit.opened,
            keys={other.header.id: other.opened.key for other in ruling.evidence if other.opened is not None},
        )

    def _follow_referee(self, own: OwnJob, now_us: int) -> None:
        """Ask for the copies that it wants, hand over what it let pass."""
        assert own.referee is not None
        while requests := self._judging.take_requests(own.referee):
            for record in requests:
                own.state.merge(record)
                self._tell_replicas(own, record)
                own.referee.has_asked(record.body, now_us, self._ctx.wall_us(now_us) // 1_000_000)
        self._judging.take_questions(own.referee)
        own.rulings.extend(self._judging.take_rulings(own.referee))
        for exhibit in self._judging.take_losers(own.referee):
            own.let_go(exhibit.header.id)
            self._consume(own, exhibit.source, exhibit.header.id)
        self._hand_over_ready(own)
        self._judging.arm(own.referee, now_us)

    def on_compared(self, event: OutputsCompared, now_us: int) -> None:
        """What the comparator's module of a followed job says of pairs of outputs."""
        own = self.jobs.get(event.job_id)
        if event.problem:
            self._ctx.notify("comparator.failed", job_id=event.job_id, reason=event.problem)
        if own is not None and own.referee is not None:
            own.referee.comparing = max(0, own.referee.comparing - 1)
            answers = [((first, second), same) for first, second, same in event.answers]
            own.referee.hear_compared(answers, now_us, self._ctx.wall_us(now_us) // 1_000_000)
            self._follow_referee(own, now_us)

    def _hand_over_ready(self, own: OwnJob) -> None:
        """Rulings in their order; one of a batch that the consumer still has a part of waits for its turn."""
        for _ in range(len(own.rulings)):
            ruling = own.rulings.popleft()
            if ruling.exhibit.header.id in own.received:
                own.rulings.append(ruling)
            else:
                self._hand_over(own, ruling)

    def _canonical_parts(self, own: OwnJob, header: Record) -> tuple[tuple[int, int], ...]:
        """The batch's tasks for which it is canonical and that were not handed over before."""
        pieces = own.state.canonical.pieces(header.body.first, header.body.first + header.body.count)
        found = [(lo, hi) for lo, hi, key in pieces if key is not None and key.batch_id == header.id]
        return tuple(gap for lo, hi in found for gap in own.handed.gaps(lo, hi))

    def _accept_again(self, own: OwnJob, header: Record, message: Delivery, now_us: int) -> None:
        """What was taken in an earlier life, but came here because its acceptance never arrived at the replicas.

        It is signed for as it was then, whatever came here.
        """
        own.hold(header.body.first, header.body.first + header.body.count, header.id, message)
        self._ask_soon(own, now_us)

    def _ask_soon(self, own: OwnJob, now_us: int) -> None:
        """At the end soon, else in company."""
        if not own.custody:
            return
        if own.verified.total == own.state.spec.tasks:
            self._do_later(own, now_us)
        self._arm_accept(now_us)

    def taken(self, job_id: bytes, batch_id: bytes, now_us: int) -> None:
        """The consumer has kept the batch: accept it, and let the replica send more."""
        own = self.jobs.get(job_id)
        if own is None:
            return
        given = own.received.pop(batch_id, None)
        if given is None:
            return
        self._hand_over_ready(own)
        delivery = Delivery(given.exhibit.header.raw, given.exhibit.columns)
        for lo, hi in given.parts:
            own.verified.add(lo, hi)
            own.bind(lo, hi, batch_id)
            own.hold(lo, hi, batch_id, delivery)
        if not own.let_go(batch_id) or given.exhibit.source != own.source:
            # Another source may have sent it again meanwhile.
            own.consumed.append(batch_id)
        if len(own.consumed) >= self._ctx.config.result_window // 4:
            self._ask(own, now_us)
            self._open_window(own)
        self._ask_soon(own, now_us)
        if own.consumed:
            self._arm_accept(now_us)

    def on_spoiled(self, event: ResultsSpoiled, now_us: int) -> None:
        """What the consumer could not open is not accepted, but judged anew."""
        own = self.jobs.get(event.job_id)
        given = own.received.get(event.batch_id) if own is not None else None
        if own is None or given is None or own.referee is None:
            return
        good = IntervalSet(*given.parts)
        spoiled = [index for index in event.indices if index in good]
        for index in spoiled:
            good.discard(index, index + 1)
        own.received[event.batch_id] = Ruling(given.exhibit, tuple(good), given.evidence)
        self._ctx.notify("result.spoiled", job_id=event.job_id, worker=given.exhibit.header.author, tasks=len(spoiled))
        own.referee.reopen(given, spoiled, now_us, self._ctx.wall_us(now_us) // 1_000_000)
        self._follow_referee(own, now_us)

    def _consume(self, own: OwnJob, peer: bytes, batch_id: bytes) -> None:
        self._ctx.send(peer, Consumed(own.state.job_id, (batch_id,)))

    def cancel(self, job_id: bytes) -> None:
        """Sign and spread the cancellation: `Notify("job.cancelled")` for each replica that has heard of it.

        And for each that is waited for no more, as it cannot be reached, is dead, or was replaced.
        """
        own = self.jobs.get(job_id)
        if own is None:
            return
        record = sign_record(self._ctx.identity, RecordKind.CANCELLATION, Cancellation(job_id))
        own.state.merge(record)
        self._tell_replicas(own, record)
        self._ctx.emit(Publish(Announce((record.raw,))))
        own.uncancelled = dict.fromkeys(self._living(own), True)
        for node in own.uncancelled:
            self._ask_whether_over(own, node)

    # -- timers, peers -------------------------------------------------------------------------------------

    def on_timer(self, key: TimerKey, now_us: int) -> bool:
        match key[0]:
            case "submit":
                self._submission_timeout(key[1], now_us)
            case "accept":
                self._accept_all(now_us)
            case "watch":
                self._watch(now_us)
            case "later":
                self.settle(now_us)
            case "judge":
                self._judge_late(now_us)
            case _:
                return False
        return True

    def _judge_late(self, now_us: int) -> None:
        """Copies may not have been asked for where it was heard, or not run: say it again, and ask others."""
        self._judging.disarm()
        for own in self.jobs.values():
            if own.referee is None or not own.following or not own.referee.cases:
                continue
            self._judging.press(own.referee, now_us)
            for record in self._judging.unheard(own.referee):
                self._tell_replicas(own, record)
            self._follow_referee(own, now_us)

    def on_connected(self, peer: bytes) -> None:
        """What a replica was told may have been lost with its link, or with its process before it was on disk."""
        for job_id, own in self.jobs.items():
            if peer in own.state.replicas:
                words = [record.raw for record in own.state.acceptances.values()]
                if own.state.cancellation is not None:
                    words.append(own.state.cancellation.raw)
                for part in in_messages(words):
                    self._ctx.send(peer, Records(job_id, part))
                if peer in own.uncancelled:
                    own.uncancelled[peer] = True
                    self._ask_whether_over(own, peer)
                self._ask_one(own, peer, own.custody.lacked_by(peer, own.custody.keys()))
