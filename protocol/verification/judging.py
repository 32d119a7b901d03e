"""What a submitter's referees need of the mesh, and what becomes of their decisions."""

from __future__ import annotations

from hashlib import sha256

from ...crypto.certificates import Role
from ..context import Context
from ..effects import CompareOutputs
from ..jobs import JobState
from ..membership import Membership
from ..records import JobSpec, MemberRecord, Record, RecordKind, sign_record
from ..tables import Tables
from .comparators import EXACT, parse_comparator
from .court import Court
from .exhibits import Exhibit, Ruling
from .lanes import numbers_of
from .policy import QUORUM_MAX, Policy, PolicyKind, parse_policy
from .referee import Referee
from .trust import TrustBook

# A row of the trust book on disk.
TRUST_ROW = 112


def unknown_rules(spec: JobSpec) -> str:
    """What this node does not understand of a job's verification; empty if nothing."""
    for key, text, parse in (
        ("verification", spec.verification, parse_policy),
        ("comparator", spec.comparator, parse_comparator),
    ):
        try:
            parse(text)
        except ValueError as error:
            return f'{key} "{text}": {error}'
    return ""


class Judging:
    """One for all jobs of a submitter."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables, book: TrustBook, court: Court) -> None:
        self._ctx = ctx
        self._court = court
        self._members = members
        self._tables = tables
        self._book = book
        self._armed = False

    def referee(self, state: JobState) -> Referee | None:
        """For a job that is followed from now on; None if its policy checks nothing."""
        if unknown_rules(state.spec):
            # Of a newer client of the same owner: the strictest that this one knows.
            policy, comparator = Policy(PolicyKind.QUORUM, quorum=QUORUM_MAX), EXACT
        else:
            policy = parse_policy(state.spec.verification)
            comparator = parse_comparator(state.spec.comparator, parts=state.spec.abi == "command")
        if policy.kind is PolicyKind.NONE:
            return None
        referee = Referee(
            state,
            policy,
            comparator,
            self._book,
            self._ctx.rng,
            lambda kind: self._panel(state, kind),
            lambda node: self._kind_of(state, node),
        )
        referee.caught.update(dict.fromkeys(self._ctx.convicted))
        return referee

    def distrusts(self, node: bytes) -> bool:
        """Whether it is not to keep a job of this submitter's: a replica has a say in who checks whom."""
        return node in self._ctx.convicted or self._book.doubts(node)

    def _kind_of(self, state: JobState, node: bytes) -> str:
        """The class that a node's results are compared in; empty if with everybody's, or if it is not known."""
        row = self._tables.get(RecordKind.MEMBER, node) if state.spec.runtime != "wasm" else None
        return row.body.native_class(state.spec.command) if row is not None else ""

    def _panel(self, state: JobState, kind: str) -> list[bytes]:
        """Nodes that live and offer what the job's tasks need, of a class."""
        rows: list[MemberRecord] = [record.body for record in self._tables.rows(RecordKind.MEMBER)]
        able = [row for row in rows if row.roles & Role.WORKER and row.can_run(state.spec)]
        able = [row for row in able if row.node not in self._ctx.convicted]
        if kind:
            able = [row for row in able if row.native_class(state.spec.command) == kind]
        if state.spec.secrecy is not None:
            able = [row for row in able if not state.may_have_share(row.node)]
        return [row.node for row in able if self._members.is_alive(row.node)]

    def take_requests(self, referee: Referee) -> list[Record]:
        requests, referee.requests = referee.requests, []
        return [sign_record(self._ctx.identity, RecordKind.RECHECK, body) for body in requests]

    def take_questions(self, referee: Referee) -> None:
        """Have the comparator's module run on the pairs that wait for it, and were not asked yet."""
        comparator = referee.comparator
        asked = [pair for pair in comparator.questions if pair not in referee.asked]
        if not asked:
            return
        referee.asked.update(dict.fromkeys(asked))
        referee.comparing += 1
        state = referee.state
        self._ctx.emit(
            CompareOutputs(
                state.job_id,
                comparator.module,
                state.replicas,
                tuple((*pair, *comparator.questions[pair]) for pair in asked),
            )
        )

    def take_rulings(self, referee: Referee) -> list[Ruling]:
        """Also tells what was learned of the workers: nothing that is sent has to wait for that to be written."""
        for row in referee.learned.values():
            self._ctx.notify("trust.learned", key=sha256(row.node + row.runtime.encode()).digest(), body=row.to_bytes())
        referee.learned.clear()
        for dispute in referee.disputes:
            self._court.accuse(dispute, referee.state.spec_record, referee.state.replicas)
            self._ctx.notify(
                "result.disputed",
                job_id=referee.state.job_id,
                index=dispute.index,
                right=dispute.right.header.author,
                wrong=dispute.wrong.header.author,
            )
        referee.disputes.clear()
        rulings, referee.rulings = referee.rulings, []
        return rulings

    def take_losers(self, referee: Referee) -> list[Exhibit]:
        losers, referee.losers = referee.losers, []
        return losers

    def arm(self, referee: Referee, now_us: int) -> None:
        """Look again while anything is under examination."""
        if referee.cases and not self._armed:
            self._armed = True
            self._ctx.set_timer(("judge", b""), now_us + self._ctx.config.status_heartbeat_us)

    def disarm(self) -> None:
        self._armed = False

    def patience_us(self, state: JobState) -> int:
        """After which a copy is overdue: a few tasks' time later than a short one would be."""
        return self._ctx.config.recheck_patience_us + 8 * max(state.task_us, state.spec.estimate_us)

    def press(self, referee: Referee, now_us: int) -> None:
        """Copies that are overdue."""
        # What could not be compared is asked once more; what is being compared takes as long as it takes.
        if not referee.comparing:
            referee.asked.clear()
        referee.on_time(now_us, self._ctx.wall_us(now_us) // 1_000_000, self.patience_us(referee.state))

    def unheard(self, referee: Referee) -> list[Record]:
        """Requests whose copies have not come: the submitter does not reconcile, so it says them again."""
        state = referee.state
        return [
            record
            for record in state.rechecks.values()
            if state.to_recheck.overlap(*numbers_of(record.body.lo, record.body.hi, record.body.copy, state.spec.tasks))
        ]
