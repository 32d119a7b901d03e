"""The submitter's judge of one job: which results are held back, who runs them again, and what counts in the end.

A worker has signed its results before anybody, the referee included, decides what of them is checked; the decision is
drawn then, so no worker can know or steer it. Results that are not drawn pass at once. One of a node that has proved
nothing yet waits until ten of its tasks were found right; one of a node that was caught is run again without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..context import Randomness
from ..intervals import IntervalMap, IntervalSet
from ..job_parts import RejectedRecord
from ..jobs import JobState
from ..records import AVOID_MAX, Recheck
from .comparators import Comparator, Pair, Undecided
from .exhibits import Case, Dispute, Exhibit, Held, Ruling
from .lanes import COPIES_MAX, numbers_of, tasks_of
from .policy import PROVEN_AFTER, Policy, PolicyKind
from .sampling import Sampled, pick
from .seats import counted
from .trust import Standing, TrustBook, runtime_of
from .verdict import Verdict, Vote, decide

# Tasks under examination at a time; what comes beyond passes only as far as there is room.
CASES_MAX = 1_000_000
# Copies that wait to hear that who gave them was a replica by then.
UNPROVEN_MAX = 64
# Of one worker: the last ones. Anybody may sign grants to itself.
UNPROVEN_A_WORKER = 8
# Copies, and of one worker, that wait for this submitter to ask for them.
UNASKED_MAX = 64
UNASKED_A_WORKER = 8
# Results of one copy of a task, of which one counts: so many who ran it after each other.
VOTES_A_COPY_MAX = 8


@dataclass(slots=True)
class Referee:
    """See the module. What it decides is left in `rulings`, `requests`, `disputes`, `losers` (batches of which
    nothing counts) and `learned` for its owner to take.

    panel: the nodes of a class that could run a copy now.  kind_of: a node's class; empty for runtimes without.
    caught: those that were found wrong in this job, or lying before, or whose class comes to other bytes than the one
    that they were compared with: nothing that they say counts.  asked: pairs that the comparator's module is at.
    comparing: how many times it was set to work and has not answered.  sampled: what chance was to check, and did.
    unproven: copies given by who is in no replica set that this node has heard of.  unasked: those that some replica
    gave, and this submitter has asked nobody for, as far as it knows.
    """

    state: JobState
    policy: Policy
    comparator: Comparator
    book: TrustBook
    rng: Randomness
    panel: Callable[[str], list[bytes]]
    kind_of: Callable[[bytes], str]
    rulings: list[Ruling] = field(default_factory=list)
    requests: list[Recheck] = field(default_factory=list)
    disputes: list[Dispute] = field(default_factory=list)
    losers: list[Exhibit] = field(default_factory=list)
    learned: dict[tuple[bytes, str], Standing] = field(default_factory=dict)
    caught: dict[bytes, None] = field(default_factory=dict)
    held: dict[bytes, Held] = field(default_factory=dict)
    unproven: dict[bytes, Exhibit] = field(default_factory=dict)
    unasked: dict[bytes, Exhibit] = field(default_factory=dict)
    cases: dict[int, Case] = field(default_factory=dict)
    asked: dict[Pair, None] = field(default_factory=dict)
    comparing: int = 0
    sampled: Sampled = field(default_factory=Sampled)
    _copies: dict[bytes, Exhibit] = field(default_factory=dict)
    _witnesses: IntervalMap[tuple[Exhibit, ...]] = field(default_factory=IntervalMap)
    _trials: dict[bytes, int] = field(default_factory=dict)
    _judged: int = 0
    _ruled: IntervalSet = field(default_factory=IntervalSet)

    @property
    def lacks_votes(self) -> bool:
        """Whether any task waits for a copy."""
        return any(case.winner is None for case in self.cases.values())

    # -- what comes in -------------------------------------------------------------------------------------

    def take(self, exhibit: Exhibit, parts: tuple[tuple[int, int], ...], now_us: int, now_s: int) -> None:
        """First results of tasks: hold what is to be checked, let the rest pass."""
        held = Held(exhibit, parts, IntervalSet(*parts))
        self.held[exhibit.header.id] = held
        for index in [index for index in held.tasks() if index in self.cases] if self.cases else ():
            held.unplanned.discard(index, index + 1)
            self._add_vote(index, exhibit.vote(index), now_s)
        spoiled = [index for index in exhibit.spoiled() if index in held.unplanned] if exhibit.opened else []
        self._open(held, _ranges(spoiled), now_us, quorum=self.policy.quorum)
        self._plan(held, now_us, now_s)
        self._finish(now_us, now_s)

    def hear_copy(self, exhibit: Exhibit, now_us: int, now_s: int) -> None:
        """A later copy's results: votes in the cases of its tasks, or of cases that will be.

        One that is left in `unproven` is to be heard again when another replica set is known, and one in `unasked`
        when this submitter has asked for it.
        """
        self.unproven.pop(exhibit.header.id, None)
        self.unasked.pop(exhibit.header.id, None)
        if not self._was_granted(exhibit):
            return
        copy, lo = exhibit.header.body.copy, exhibit.batch.first
        hi, tasks = lo + len(exhibit.batch), self.state.spec.tasks
        numbers = self.state.reruns.asked_of(exhibit.header.author, *numbers_of(lo, hi, copy, tasks))
        asked = IntervalSet(*(tasks_of(a, b, tasks) for a, b in numbers))
        for index in range(lo, hi):
            if index in self._ruled:
                continue
            if index in self.state.accepted_tasks:
                self._witnesses.update(index, index + 1, lambda known: (*(known or ()), exhibit))
                continue
            if index not in asked:
                # A replica may lie, and have given it to an accomplice, without a salt or anybody to race with.
                _keep(self.unasked, exhibit, UNASKED_MAX, UNASKED_A_WORKER)
                continue
            if index not in self.cases:
                # Of an earlier life of this submitter: its first result is still to come.
                if len(self.cases) >= CASES_MAX:
                    continue
                kind = self.kind_of(exhibit.header.author)
                self.cases[index] = Case(self.policy.quorum, kind, copies=copy, awaited=1, asked_us=now_us)
            self._copies[exhibit.header.id] = exhibit
            self._add_vote(index, exhibit.vote(index), now_s)
        self._ask(range(lo, hi), now_us)
        self._finish(now_us, now_s)

    def has_asked(self, recheck: Recheck, now_us: int, now_s: int) -> None:
        """The submitter has signed this; copies that came before are votes from now on."""
        for exhibit in list(self.unasked.values()):
            lo, hi = exhibit.batch.first, exhibit.batch.first + len(exhibit.batch)
            if exhibit.header.body.copy == recheck.copy and lo < recheck.hi and recheck.lo < hi:
                self.hear_copy(exhibit, now_us, now_s)

    def knows_copy(self, exhibit: Exhibit) -> bool:
        """Whether it was heard before, of tasks that are accepted."""
        lo, batch_id = exhibit.batch.first, exhibit.header.id
        pieces = self._witnesses.pieces(lo, lo + len(exhibit.batch))
        heard = (other for _, _, known in pieces for other in known or ())
        return batch_id in self.unproven or any(other.header.id == batch_id for other in heard)

    def pass_accepted(self, exhibit: Exhibit, parts: tuple[tuple[int, int], ...]) -> None:
        """Results that the submitter accepted from the batch in an earlier life: they were judged then.

        Copies that were heard of before go along as evidence.
        """
        evidence: dict[bytes, Exhibit] = {}
        for lo, hi in parts:
            for _, _, known in self._witnesses.pieces(lo, hi):
                evidence.update((other.header.id, other) for other in known or ())
            self._witnesses.remove(lo, hi)
            self._ruled.add(lo, hi)
        evidence.pop(exhibit.header.id, None)
        self.rulings.append(Ruling(exhibit, parts, tuple(evidence.values())))

    def reopen(self, ruling: Ruling, indices: Iterable[int], now_us: int, now_s: int) -> None:
        """Of a ruling, these tasks' results turned out not to be what their worker signed for: judge them anew.

        Those that its results were compared with still have their votes.
        """
        exhibit = ruling.exhibit
        author, own = exhibit.header.author, exhibit.header.id
        tasks = [index for index in indices if not self.state.accepted_tasks.overlap(index, index + 1)]
        if not tasks:
            return
        self._learn(self.book.found_wrong(author, runtime_of(self.state.spec), now_s))
        self.caught[author] = None
        for index in tasks:
            self._ruled.discard(index, index + 1)
            case = self.cases[index] = Case(self.policy.quorum, self._class_of(author), asked_us=now_us)
            case.votes.append(exhibit.vote(index)._replace(spoiled=True))
            for other in ruling.evidence:
                if other.batch.first <= index < other.batch.first + len(other.batch):
                    self._copies[other.header.id] = other
                    case.votes.append(other.vote(index))
            asked = [record.body.copy for record in self.state.rechecks.values() if _covers(record.body, index)]
            case.copies = max([*asked, *(vote.copy for vote in case.votes)])
        held = self.held.get(own)
        if held is None:
            self.held[own] = Held(exhibit, tuple(_ranges(tasks)), IntervalSet())
        else:
            held.parts = tuple(IntervalSet(*held.parts, *_ranges(tasks)))
        self._close_ready(tasks, now_s)
        self._ask(tasks, now_us)
        self._finish(now_us, now_s)

    def judge_again(self, lo: int, hi: int) -> None:
        """Of tasks [lo, hi) the results that were let pass are lost: others are to come."""
        self._ruled.discard(lo, hi)

    def _close_ready(self, indices: Iterable[int], now_s: int) -> None:
        """Close those of the cases whose votes come to a verdict."""
        for index in indices:
            case = self.cases[index]
            if case.winner is None:
                verdict = self._decide(case, case.quorum)
                if verdict.winner is not None:
                    self._close(index, verdict, now_s)

    def _was_granted(self, exhibit: Exhibit) -> bool:
        """A copy counts only with the grant of a replica: else an accomplice could vote unasked."""
        try:
            granter = self.state.check_copy(exhibit.header)
        except RejectedRecord:
            return False
        if not self.state.may_grant(granter):
            _keep(self.unproven, exhibit, UNPROVEN_MAX, UNPROVEN_A_WORKER)
            return False
        return True

    def on_time(self, now_us: int, now_s: int, patience_us: int) -> None:
        """Copies that do not come are asked for anew; who has nobody to ask decides with what there is."""
        overdue = []
        for index, case in self.cases.items():
            if case.winner is None and now_us - case.asked_us >= patience_us:
                overdue.append(index)
        for index in overdue:
            case = self.cases[index]
            if self.policy.is_strict or self._others(case):
                case.awaited = 0
                continue
            verdict = self._decide(case, 1)
            if verdict.winner is not None:
                self._close(index, verdict, now_s)
        self._ask(overdue, now_us)
        self._finish(now_us, now_s)

    # -- deciding what to check ----------------------------------------------------------------------------

    def _plan(self, held: Held, now_us: int, now_s: int) -> None:
        """Draw what of the batch is checked; of a node on trial the rest stays undecided until the trial is over."""
        author = held.exhibit.header.author
        if not held.unplanned:
            return
        if author in self.caught:
            self._open(held, list(held.unplanned), now_us, quorum=self.policy.quorum)
            return
        if len(self.cases) >= CASES_MAX:
            return
        if not self.policy.is_strict and not self._could_check(author, self._class_of(author)):
            held.unplanned = IntervalSet()
            return
        if self.policy.kind is not PolicyKind.ADAPTIVE:
            self._draw(held, self.policy.share_to_check(0), now_us)
            return
        streak = self.book.streak(author, runtime_of(self.state.spec), now_s)
        if streak >= PROVEN_AFTER:
            self._draw(held, self.policy.share_to_check(streak), now_us)
            return
        wanted = PROVEN_AFTER - streak - self._trials.get(author, 0)
        if wanted > 0:
            self._open(held, self._some(held.unplanned, wanted), now_us, quorum=self.policy.quorum)

    def _could_check(self, author: bytes, kind: str) -> bool:
        return any(node != author for node in self.panel(kind))

    def _class_of(self, author: bytes) -> str:
        """The class that a node's results are compared in: its own, or if it is alone there, the largest of several.

        A node says itself of which class it is, and would else be compared with nobody by inventing one. What machines
        of two classes come to may differ, so none is a liar for that; but then only what can be checked counts.
        """
        own = self.kind_of(author)
        if not own or self.policy.is_strict or self._could_check(author, own):
            return own
        sizes: dict[str, int] = {}
        for node in self.panel(""):
            kind = self.kind_of(node)
            if kind and node != author:
                sizes[kind] = sizes.get(kind, 0) + 1
        several = [(size, kind) for kind, size in sizes.items() if size > 1]
        return max(several)[1] if several else own

    def _draw(self, held: Held, share: float, now_us: int) -> None:
        count = held.unplanned.total
        drawn = self.sampled.draw(count, share, self.rng.random)
        chosen = [part for lo, hi in drawn for part in pick(held.unplanned, lo, hi)]
        self._open(held, chosen, now_us, quorum=self.policy.quorum)
        held.unplanned = IntervalSet()

    def _some(self, tasks: IntervalSet, wanted: int) -> list[tuple[int, int]]:
        """So many, in one stretch at a random place."""
        count = min(wanted, tasks.total)
        start = self.rng.randrange(tasks.total - count + 1)
        return pick(tasks, start, start + count)

    def _open(self, held: Held, parts: list[tuple[int, int]], now_us: int, *, quorum: int) -> None:
        """Cases for these tasks of the batch; its own word is a vote, unless its author was caught."""
        author = held.exhibit.header.author
        opened: list[int] = []
        kind = self._class_of(author) if parts else ""
        for lo, hi in parts:
            held.unplanned.discard(lo, hi)
            for index in range(lo, hi):
                case = self.cases.get(index)
                if case is None:
                    case = self.cases[index] = Case(quorum, kind, asked_us=now_us)
                case.votes.append(held.exhibit.vote(index))
                opened.append(index)
        if author not in self.caught:
            self._trials[author] = self._trials.get(author, 0) + len(opened)
        self._ask(opened, now_us)

    # -- asking for copies ---------------------------------------------------------------------------------

    def _counted(self, case: Case) -> list[Vote]:
        return counted(case.votes, self.caught)

    def _others(self, case: Case) -> bool:
        """Whether there is anybody to ask whose vote would count, and does not yet."""
        votes = self._counted(case)
        voted = {vote.node for vote in votes} | set(self.caught)
        kind = case.kind if votes else ""
        return any(node not in voted and not self.book.doubts(node) for node in self.panel(kind))

    def _barred(self, case: Case) -> tuple[bytes, ...]:
        """Who voted, unless somebody else has the seat; that one may run another copy."""
        voted = {vote.node for vote in self._counted(case)} | set(self.caught)
        return tuple(dict.fromkeys(vote.node for vote in case.votes if vote.node in voted))

    def _ask(self, indices: Iterable[int], now_us: int) -> None:
        """Sign up as many copies as each case lacks; neighbours that the same nodes voted on share a request."""
        wanted: dict[tuple[int, str, tuple[bytes, ...]], IntervalSet] = {}
        for index in indices:
            case = self.cases.get(index)
            if case is None or case.winner is not None:
                continue
            more = self._decide(case, case.quorum).more
            while case.awaited < more and case.copies < COPIES_MAX - 1:
                case.copies += 1
                case.awaited += 1
                case.asked_us = now_us
                # Where no vote counts any more, a node of any class may begin anew.
                kind = case.kind if self._counted(case) else ""
                key = (case.copies, kind, self._barred(case))
                wanted.setdefault(key, IntervalSet()).add(index, index + 1)
        for (copy, kind, barred), tasks in wanted.items():
            for lo, hi in tasks:
                barring = [node for node in self.panel(kind) if node in self.caught or self.book.doubts(node)]
                nodes = dict.fromkeys((*barring, *barred))
                salt = self.rng.getrandbits(128).to_bytes(16, "big")
                self.requests.append(Recheck(self.state.job_id, lo, hi, copy, salt, tuple(nodes)[-AVOID_MAX:], kind))

    # -- verdicts ------------------------------------------------------------------------------------------

    def _add_vote(self, index: int, vote: Vote, now_s: int) -> None:
        case = self.cases[index]
        if any(known.batch_id == vote.batch_id for known in case.votes):
            return
        rivals = [known.node for known in case.votes if known.copy == vote.copy] if vote.copy else []
        if vote.node in rivals or sum(node not in self.caught for node in rivals) >= VOTES_A_COPY_MAX:
            return
        kind = self.kind_of(vote.node)
        if not self._counted(case):
            case.kind = kind
        if case.kind and kind and kind != case.kind:
            # Of another kind of machine: it says nothing about this one's. The copy is asked for anew.
            return
        case.votes.append(vote)
        case.copies = max(case.copies, vote.copy)
        if vote.copy and not rivals:
            case.awaited = max(0, case.awaited - 1)
        if case.winner is None:
            verdict = self._decide(case, case.quorum)
            if verdict.winner is not None:
                self._close(index, verdict, now_s)
        else:
            self._judge_late(index, case, vote, now_s)

    def _judge_late(self, index: int, case: Case, vote: Vote, now_s: int) -> None:
        """A vote that came when the case was closed."""
        assert case.winner is not None
        try:
            if not self.comparator.same(case.winner, vote):
                self._catch(index, case.winner, vote, now_s)
        except Undecided:
            case.unjudged.append(vote)

    def _decide(self, case: Case, quorum: int) -> Verdict:
        """What the votes that count come to; nothing, and nobody more is asked, while a comparison is awaited."""
        try:
            return decide(self._counted(case), quorum, self.comparator.same)
        except Undecided:
            return Verdict(None, 0)

    def hear_compared(self, answers: Iterable[tuple[Pair, bool]], now_us: int, now_s: int) -> None:
        """What the comparator's module said: cases that waited for it go on."""
        for pair, same in answers:
            self.comparator.learn(pair, same)
        for index, case in list(self.cases.items()):
            if case.winner is None:
                verdict = self._decide(case, case.quorum)
                if verdict.winner is not None:
                    self._close(index, verdict, now_s)
            elif case.unjudged:
                unjudged, case.unjudged = case.unjudged, []
                for vote in unjudged:
                    self._judge_late(index, case, vote, now_s)
        self._ask(list(self.cases), now_us)
        self._finish(now_us, now_s)

    def _close(self, index: int, verdict: Verdict, now_s: int) -> None:
        case, winner = self.cases[index], verdict.winner
        assert winner is not None
        case.winner = winner
        runtime = runtime_of(self.state.spec)
        if len(verdict.agreeing) > 1:
            for node in verdict.agreeing:
                self._learn(self.book.found_right(node, runtime, 1, now_s))
        for vote in case.votes:
            if vote.node in self._trials and vote.copy == 0:
                self._trials[vote.node] = max(0, self._trials[vote.node] - 1)
            if vote.node in verdict.dissenting:
                self._catch(index, winner, vote, now_s)
            elif vote.node not in verdict.agreeing and vote.node not in self.caught:
                self._judge_late(index, case, vote, now_s)

    def _catch(self, index: int, right: Vote, wrong: Vote, now_s: int) -> None:
        """Its record is gone, and its other word here too: what it delivered is run again without it."""
        self.caught[wrong.node] = None
        self._trials.pop(wrong.node, None)
        kinds = {self.kind_of(right.node), self.kind_of(wrong.node)} - {""}
        if len(kinds) > 1 and not wrong.spoiled:
            # Its class may come to other bytes: that is no lie.
            return
        self._learn(self.book.found_wrong(wrong.node, runtime_of(self.state.spec), now_s))
        mine, other = self._exhibit(right.batch_id), self._exhibit(wrong.batch_id)
        if mine is not None and other is not None and self.comparator.is_exact:
            self.disputes.append(Dispute(index, mine, other))

    def _learn(self, row: Standing) -> None:
        self.learned[row.node, row.runtime] = row

    def _exhibit(self, batch_id: bytes) -> Exhibit | None:
        held = self.held.get(batch_id)
        return held.exhibit if held is not None else self._copies.get(batch_id)

    # -- letting go ----------------------------------------------------------------------------------------

    def _finish(self, now_us: int, now_s: int) -> None:
        """Plan what waited for a trial, retry what a caught node said, release what is settled; until nothing moves."""
        while True:
            known = len(self.caught)
            for held in list(self.held.values()):
                if held.exhibit.header.author in self.caught:
                    self._retry(held, now_us, now_s)
                else:
                    self._plan(held, now_us, now_s)
            if known != self._judged:
                self._judged = known
                # Votes that counted do not any more: what they were a doubt about may be settled, the rest lacks one.
                self._close_ready(list(self.cases), now_s)
                self._ask(list(self.cases), now_us)
            if known == len(self.caught):
                break
        for held in list(self.held.values()):
            self._release(held)

    def _retry(self, held: Held, now_us: int, now_s: int) -> None:
        """All tasks of a caught node's batch become cases, in which its own word does not count."""
        author = held.exhibit.header.author
        unchecked = [index for index in held.tasks() if index not in self.cases]
        self._open(held, _ranges(unchecked), now_us, quorum=self.policy.quorum)
        for index in held.tasks():
            case = self.cases[index]
            if case.winner is not None and case.winner.node == author:
                case.winner = None
                verdict = self._decide(case, case.quorum)
                if verdict.winner is not None:
                    self._close(index, verdict, now_s)
        self._ask(list(held.tasks()), now_us)

    def _release(self, held: Held) -> None:
        if held.unplanned:
            return
        own = held.exhibit.header.id
        won: dict[bytes, list[int]] = {}
        for index in held.tasks():
            case = self.cases.get(index)
            if case is None:
                won.setdefault(own, []).append(index)
            elif case.winner is None:
                return
            else:
                won.setdefault(case.winner.batch_id, []).append(index)
        compared: dict[bytes, Exhibit] = {}
        for index in held.tasks():
            case = self.cases.get(index)
            for vote in case.votes if case is not None else ():
                exhibit = self._exhibit(vote.batch_id)
                if exhibit is not None:
                    compared[vote.batch_id] = exhibit
        for batch_id, indices in won.items():
            winner = self._exhibit(batch_id)
            assert winner is not None, "a verdict for a batch that nobody has"
            others = tuple(exhibit for key, exhibit in compared.items() if key != batch_id)
            self.rulings.append(Ruling(winner, tuple(_ranges(indices)), others))
        if own not in won:
            self.losers.append(held.exhibit)
        for lo, hi in held.parts:
            self._ruled.add(lo, hi)
        del self.held[own]
        for index in held.tasks():
            self.cases.pop(index, None)
        for batch_id, exhibit in list(self._copies.items()):
            span = range(exhibit.batch.first, exhibit.batch.first + len(exhibit.batch))
            if not any(index in self.cases for index in span):
                del self._copies[batch_id]


def _keep(waiting: dict[bytes, Exhibit], exhibit: Exhibit, most: int, a_worker: int) -> None:
    """For those that find no room others make room, of the same worker first: they will be asked for once more."""
    if exhibit.header.id in waiting:
        return
    worker = exhibit.header.author
    own = [each for each, other in waiting.items() if other.header.author == worker]
    if len(own) >= a_worker:
        del waiting[own[0]]
    elif len(waiting) >= most:
        del waiting[next(iter(waiting))]
    waiting[exhibit.header.id] = exhibit


def _covers(recheck: Recheck, index: int) -> bool:
    return bool(recheck.lo <= index < recheck.hi)


def _ranges(indices: Iterable[int]) -> list[tuple[int, int]]:
    found = IntervalSet()
    for index in indices:
        found.add(index, index + 1)
    return list(found)
