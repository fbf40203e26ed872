"""Gradio's queue, but for its memory of what is long answered."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.queueing import Event, Queue
from gradio.server_messages import EventMessage

__all__ = ["ForgettingQueue", "with_queue"]


def with_queue(page: gr.Blocks, *, waiting: int) -> gr.Blocks:
    """The page, in which so many questions may wait."""
    page.queue(max_size=waiting, api_open=False)
    page._queue = ForgettingQueue(  # as `Blocks.queue` makes gradio's
        live_updates=True,
        concurrency_count=page.max_threads,
        update_intervals=1,
        max_size=waiting,
        blocks=page,
        default_concurrency_limit="not_set",
    )
    return page


class ForgettingQueue(Queue):
    """Forgets an event, and with it the visitor's request, when its answer was taken.

    Gradio 5.50 keeps every event as long as the server runs (`gradio/queueing.py`), which is 24 KiB for each question,
    and goes through all of them after each answer, for statistics that nobody sees here. What a visitor who has left
    did not take is forgotten when gradio forgets his session, of which it keeps 2,000.

    No option or hook of gradio 5.50 does this, and only its queue tells visitors their place in it. Gradio's pull
    requests 13156 and 13756 mend it; when LlamaFactory admits a gradio with them, this file can go.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._answering: set[str] = set()

    def compute_analytics_summary(self, event_analytics: dict[str, Any]) -> dict[str, Any]:
        """Nothing: the page has no monitoring."""
        return self.cached_event_analytics_summary

    def send_message(self, event: Event, event_message: EventMessage) -> None:
        """As gradio's; nothing where the session is gone, which there ends the whole queue."""
        if event.session_hash in self.pending_messages_per_session:
            super().send_message(event, event_message)

    async def process_events(self, events: list[Event], batch: bool, begin_time: float) -> None:
        """As gradio's."""
        mine = {event._id for event in events}
        self._answering |= mine  # gradio's own list of active jobs lets go of them before it has done with them
        try:
            await super().process_events(events, batch, begin_time)
        finally:
            self._answering -= mine
            self._forget()

    def _forget(self) -> None:
        """Runs between two steps of gradio's coroutines; what one of them may still look up stays."""
        self._asyncio_tasks = [task for task in self._asyncio_tasks if not task.done()]  # this one goes with the next
        queues = [one.queue for one in self.event_queue_per_concurrency_id.values()]
        under_way = {event._id for events in (*queues, *filter(None, self.active_jobs)) for event in events}
        under_way |= self._answering
        for session, not_taken in list(self.pending_event_ids_session.items()):
            if session not in self.pending_messages_per_session:
                not_taken &= under_way
            if not not_taken:
                del self.pending_event_ids_session[session]
                self.pending_messages_per_session.pop(session, None)
        kept = under_way.union(*self.pending_event_ids_session.values())
        for answered in self.event_ids_to_events.keys() - kept:
            del self.event_ids_to_events[answered]
            self.event_analytics.pop(answered, None)
