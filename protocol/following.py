"""From which replica a client hears of a job, and when it turns to another.

It follows one: its source. A source that is silent is left; so is one that says that it has results, and sends none.
One that only says nothing new may be slow work, or a replica whose disk is full or that nobody else reaches: the others
are asked how far they are, more and more seldom, and who knows more is followed. Where copies of what is here do not
come, the next one is followed as well, after longer: nobody says of how many it knows, and a source may keep them back,
or take them of nobody whom it holds for a liar.

The layer between `accepting` and `submitter`.
"""

from __future__ import annotations

from msgspec.structs import replace

from .accepting import Accepting
from .messages import JobStatus, Subscribe, TaskRange, Unsubscribe
from .own_job import OwnJob

HAVE_RANGES_MAX = 4096
# The time between two looks around doubles so often: from two heartbeats to some four minutes.
LOOK_DOUBLINGS = 6


class Following(Accepting):
    """See the module."""

    _watch_armed = False

    # -- choosing ------------------------------------------------------------------------------------------

    def _follow_other(self, own: OwnJob, now_us: int) -> None:
        """Subscribe at the living replica that is next after the last source."""
        nodes = self._living(own)
        if not nodes:
            # Others may have taken their seats meanwhile.
            own.suspects.clear()
            own.source = None
            self.find(own.state.job_id)
            return
        if all(node in own.suspects for node in nodes):
            # Each was doubted once: begin anew, with any but the one that was doubted last.
            last = [node for node in own.suspects if node in nodes][-1:]
            own.suspects = dict.fromkeys(last if len(nodes) > 1 else ())
        good = [node for node in nodes if node not in own.suspects]
        # Workers send results in the order of ranks; which node has which rank differs from job to job.
        # But who was asked before knows no less than it said then; another may not have heard of the results yet.
        first = next((node for node in good if node in own.stored_by), good[0])
        self._follow_at(own, own.last_source if own.last_source in good else first, now_us)

    def _follow_at(self, own: OwnJob, node: bytes, now_us: int) -> None:
        former, own.source, own.last_source = own.source, node, node
        own.heard_us = own.moved_us = now_us
        own.consumed.clear()
        own.status = None
        have = tuple(TaskRange(lo, hi) for lo, hi in own.verified)[:HAVE_RANGES_MAX]
        window = self._ctx.config.result_window
        self._ctx.send(node, Subscribe(own.state.job_id, have, own.wants_results, window))
        if former is not None and own.uncancelled.get(former):
            self._ask_whether_over(own, former)

    def _leave_source(self, own: OwnJob, now_us: int) -> None:
        """For the next one, if there is another."""
        if own.source is None or len(self._living(own)) < 2:
            return
        self._ctx.send(own.source, Unsubscribe(own.state.job_id))
        self._doubt(own, own.source)
        self._follow_other(own, now_us)

    def _doubt(self, own: OwnJob, node: bytes) -> None:
        """Of those that are doubted, this one last."""
        own.suspects.pop(node, None)
        own.suspects[node] = None

    # -- progress ------------------------------------------------------------------------------------------

    def on_status(self, peer: bytes, message: JobStatus, now_us: int) -> None:
        own = self.jobs.get(message.job_id)
        if own is None:
            return
        if peer in own.uncancelled and message.state != "running":
            self._has_heard(own, peer)
        message = _believed(own, message)
        if peer in own.looked_at and peer != own.source:
            del own.looked_at[peer]
            self._weigh(own, peer, message, now_us)
        elif peer == own.source:
            own.heard_us = now_us
            own.status = message
            if message.done > own.most_done:
                own.most_done = message.done
                own.has_news(now_us)
            self._notify_status(own, message, peer)

    def _heard_results(self, own: OwnJob, peer: bytes, now_us: int) -> None:
        """Results came that were not here. What came before, and comes again, is no sign of life."""
        if peer == own.source:
            own.heard_us = own.moved_us = now_us
            own.asked_again = 0
            own.has_news(now_us)

    def _weigh(self, own: OwnJob, peer: bytes, other: JobStatus, now_us: int) -> None:
        """Another replica says how far it is: who knows more is followed from now on."""
        more = own.status is not None and other.done > own.status.done
        if own.following and own.source is not None and more:
            self._ctx.send(own.source, Unsubscribe(own.state.job_id))
            self._follow_at(own, peer, now_us)
        else:
            self._ctx.send(peer, Unsubscribe(own.state.job_id))

    def _notify_status(self, own: OwnJob, status: JobStatus, replica: bytes | None) -> None:
        """Nobody but this client accepts, so what it took counts, whether the replica has heard it or not.

        heard: of how many acceptances the replica has.
        """
        accepted, heard = own.taken, status.accepted
        if accepted > heard:
            state = "accepted" if accepted == own.state.spec.tasks else status.state
            status = replace(status, accepted=accepted, state=state)
        self._ctx.notify("job.status", job_id=own.state.job_id, status=status, replica=replica, heard=heard)

    # -- cancelling ----------------------------------------------------------------------------------------

    def _ask_whether_over(self, own: OwnJob, node: bytes) -> None:
        """Behind the cancellation, on the same link: what it answers knows of it. The source tells by itself."""
        if node != own.source:
            self._ctx.send(node, Subscribe(own.state.job_id, (), False, self._ctx.config.result_window))

    def _has_heard(self, own: OwnJob, node: bytes) -> None:
        del own.uncancelled[node]
        if node != own.source:
            self._ctx.send(node, Unsubscribe(own.state.job_id))
        self._notify_cancelled(own, node)

    def _notify_cancelled(self, own: OwnJob, replica: bytes | None) -> None:
        """replica: that has heard of it; None if one is waited for no more."""
        waiting = sum(own.uncancelled.values())
        self._ctx.notify("job.cancelled", job_id=own.state.job_id, replica=replica, waiting=waiting)

    def on_unreachable(self, peer: bytes) -> None:
        """A link could not be made, or it is dead. Once it has one it is told of what was cancelled, and asked anew."""
        for own in self.jobs.values():
            if own.uncancelled.get(peer):
                own.uncancelled[peer] = False
                self._notify_cancelled(own, None)

    def _drop_former(self, own: OwnJob) -> None:
        """Who lost its seat need not hear of the cancellation."""
        for node in [node for node in own.uncancelled if node not in own.state.replicas]:
            del own.uncancelled[node]
            self._notify_cancelled(own, None)

    # -- watching ------------------------------------------------------------------------------------------

    def _arm_watch(self, now_us: int) -> None:
        if not self._watch_armed:
            self._watch_armed = True
            self._ctx.set_timer(("watch", b""), now_us + self._ctx.config.status_heartbeat_us)

    def _watch(self, now_us: int) -> None:
        """A source that has been silent for two heartbeats is left for another replica."""
        self._watch_armed = False
        patience_us = 2 * self._ctx.config.status_heartbeat_us
        for own in self.jobs.values():
            if not own.following:
                continue
            self._arm_watch(now_us)
            if own.source is None or now_us - own.heard_us > patience_us:
                if own.source is not None:
                    self._doubt(own, own.source)
                self._follow_other(own, now_us)
            else:
                self._catch_up(own, now_us, patience_us)
                self._look_around(own, now_us, patience_us)

    def _catch_up(self, own: OwnJob, now_us: int, patience_us: int) -> None:
        """What was dropped on the way to or from the source, though it speaks: tell again, or ask again."""
        if own.status is None:
            return
        # This life may have signed for few of them, so its own count says nothing of what the source lacks.
        lost = own.unsigned.total - own.waiting
        behind = own.status.accepted < own.state.accepted_tasks.total + lost
        if behind and now_us - own.told_us > patience_us:
            own.told_us = now_us
            for record in own.state.acceptances.values():
                self._tell_replicas(own, record)
        starved = own.handed.total < own.status.done and not own.received and not self._is_laden(own)
        unaccepted = behind and lost > 0
        # Once each was asked, more and more seldom: it may be this node that takes nothing, as its clock is wrong.
        in_vain = max(0, own.asked_again - len(self._living(own)))
        wait_us = patience_us << min(in_vain, LOOK_DOUBLINGS)
        if own.wants_results and (starved or unaccepted) and now_us - own.moved_us > wait_us:
            if starved and own.asked_again and own.source is not None:
                # It was asked again before, and has sent nothing since.
                self._doubt(own, own.source)
            own.asked_again = own.asked_again + 1 if starved else 0
            self._follow_other(own, now_us)

    def _look_around(self, own: OwnJob, now_us: int, patience_us: int) -> None:
        """Ask the others how far they are, if there was no news of work for long."""
        if own.status is None or own.state.cancellation is not None or self._is_laden(own):
            return
        if self._lacks_copies(own, now_us, patience_us << LOOK_DOUBLINGS):
            own.turns += 1
            own.copies_us = now_us
            self._leave_source(own, now_us)
            return
        wait_us = patience_us << min(own.looks, LOOK_DOUBLINGS)
        known = own.handed.total if own.wants_results else own.status.done
        if known == own.state.spec.tasks or now_us - own.news_us <= wait_us:
            return
        own.looks += 1
        own.news_us = now_us
        others = [node for node in self._living(own) if node != own.source]
        own.looked_at = dict.fromkeys([node for node in others if node not in own.suspects] or others)
        for node in own.looked_at:
            self._ctx.send(node, Subscribe(own.state.job_id, (), False, self._ctx.config.result_window))

    def _lacks_copies(self, own: OwnJob, now_us: int, longest_us: int) -> bool:
        """Whether copies are overdue, and it is not the consumer who is slow.

        longest_us: the first time it takes no longer, whatever workers claim that their tasks cost. As copies of tasks
        that do take so long may be on their way, it takes twice as long each time.
        """
        if own.referee is None or own.received:
            return False
        usual_us = self._judging.patience_us(own.state)
        wait_us = min(usual_us, longest_us) << min(own.turns, LOOK_DOUBLINGS)
        return now_us - own.copies_us > min(wait_us, max(usual_us, longest_us)) and own.referee.lacks_votes

    def on_peer_gone(self, peer: bytes, now_us: int) -> None:
        if self._members.is_gone(peer):
            self.on_unreachable(peer)
        for own in self.jobs.values():
            if own.uncancelled.get(peer):
                # Over a new link, or none can be made.
                self._ask_whether_over(own, peer)
            if own.following and own.source == peer:
                self._doubt(own, peer)
                self._follow_other(own, now_us)


def _believed(own: OwnJob, said: JobStatus) -> JobStatus:
    """What a replica says of a job, as far as it can be true: its word alone ends nothing.

    It shows a cancellation with the submitter's signature, which comes before; and what is done is all that is done.
    """
    tasks = own.state.spec.tasks
    done = min(said.done, tasks)
    is_over = own.state.cancellation is not None if said.state == "cancelled" else done == tasks
    state = said.state if is_over or said.state == "running" else "running"
    return said if (done, state) == (said.done, said.state) else replace(said, done=done, state=state)
