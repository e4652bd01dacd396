"""``redspan top``: queues, jobs and failures as they change, in the terminal."""

from __future__ import annotations

import webbrowser
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from rich.console import Group
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static, TabbedContent, TabPane
from textual.worker import get_current_worker

from proxy.watch.client import Client, WatchError
from proxy.watch.show import details, job_cells, queues_table, trace_rows, waterfall

_FAILED: Final = frozenset({"failed", "dead", "lost", "retrying"})
_ROWS: Final = 200
_COLUMNS: Final = ("STATUS", "QUEUE", "ID", "TYPE", "TRY", "WAITED", "TOOK", "HEARD", "TRACE")
_EVERY: Final = 1.0
"""Seconds between questions."""


class Sheet(ModalScreen[None]):
    """One job or one trace."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss", "back")]
    DEFAULT_CSS = (
        "Sheet { align: center middle; } Sheet VerticalScroll { width: 95%; height: 90%; border: round $primary; }"
    )

    def __init__(self, *content: Any) -> None:
        super().__init__()
        self._content = content

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(Group(*self._content), id="sheet")
        yield Footer()


class Top(App[None]):
    """``client`` is asked each second."""

    TITLE = "redspan"
    CSS = (
        "#filter { dock: bottom; display: none; } #filter.open { display: block; } #said { height: 1; color: $error; }"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("enter", "job", "job", priority=False),
        Binding("t", "trace", "trace"),
        Binding("o", "open", "open link"),
        Binding("c", "copy", "copy trace id"),
        Binding("escape", "clear", "no filter"),
    ]

    def __init__(self, client: Client, *, trace_id: str = "", queue: str = "") -> None:
        super().__init__()
        self._client = client
        self.wanted: dict[str, str] = {name: text for name, text in (("trace_id", trace_id), ("queue", queue)) if text}
        """The filter, as the API has it."""
        self._jobs: dict[str, dict[str, Any]] = {}

    def compose(self) -> ComposeResult:
        yield Static(id="said")
        with TabbedContent(initial="live"):
            for name, title in (("live", "Jobs"), ("failures", "Failures")):
                with TabPane(title, id=name):
                    yield DataTable[Any](id=f"{name}-table", cursor_type="row", zebra_stripes=True)
            with TabPane("Queues", id="queues"), VerticalScroll():
                yield Static(id="queues-table")
        yield Input(placeholder="a trace id, a queue, or type=… status=… worker=… correlation_id=… id=…", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        for table in self.query(DataTable):
            table.add_columns(*_COLUMNS)
        self.query_one("#live-table").focus()
        self.set_interval(_EVERY, self._refresh)
        self._refresh()

    def _refresh(self) -> None:
        self.run_worker(self._ask, thread=True, exclusive=True)

    def _ask(self) -> None:
        worker = get_current_worker()
        try:
            jobs = self._client.get("/api/jobs", {**self.wanted, "limit": _ROWS})["jobs"]
            failed = self._client.get("/api/jobs", {"status": ",".join(sorted(_FAILED)), **self.wanted, "limit": _ROWS})
            queues = self._client.get("/api/queues")["queues"]
        except WatchError as error:
            if not worker.is_cancelled:
                self.call_from_thread(self._say, str(error))
            return
        if not worker.is_cancelled:
            self.call_from_thread(self._show, jobs, failed["jobs"], queues)

    def _say(self, text: str) -> None:
        self.query_one("#said", Static).update(Text(text))

    def _show(self, jobs: list[dict[str, Any]], failed: list[dict[str, Any]], queues: list[dict[str, Any]]) -> None:
        self._say(" ".join(f"{name}={text}" for name, text in self.wanted.items()))
        self._jobs = {_row(job): job for job in (*failed, *jobs)}
        for name, shown in (("live", jobs), ("failures", failed)):
            table = self.query_one(f"#{name}-table", DataTable)
            chosen = self._key(table)
            table.clear()
            for job in {_row(one): one for one in shown}.values():
                table.add_row(*job_cells(job), key=_row(job))
            if chosen in table.rows:
                table.move_cursor(row=table.get_row_index(chosen))
        self.query_one("#queues-table", Static).update(queues_table(queues))

    def _key(self, table: DataTable[Any]) -> str:
        if not table.row_count:
            return ""
        return str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)

    def chosen(self) -> dict[str, Any] | None:
        """The job under the cursor."""
        active = self.query_one(TabbedContent).active
        return None if active == "queues" else self._jobs.get(self._key(self.query_one(f"#{active}-table", DataTable)))

    # ---- keys

    def action_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.wanted = read_filter(event.value)
        self._close_filter()

    def action_clear(self) -> None:
        self.wanted = {}
        self.query_one("#filter", Input).value = ""
        self._close_filter()

    def _close_filter(self) -> None:
        self.query_one("#filter").remove_class("open")
        self.query_one("#live-table").focus()
        self._refresh()

    def on_data_table_row_selected(self) -> None:
        self.action_job()

    def action_job(self) -> None:
        job = self.chosen()
        if job is not None:
            self._sheet(lambda: list(details(self._client.job(job["id"]))))

    def action_trace(self) -> None:
        job = self.chosen()
        if job is not None:
            self._sheet(lambda: [waterfall(list(trace_rows(self._client.trace(job["trace_id"])["spans"])))])

    def action_open(self) -> None:
        job = self.chosen()
        link = str(job["trace_url"] or "") if job is not None else ""
        if urlsplit(link).scheme in ("http", "https"):
            webbrowser.open(link)
        else:
            self.notify("there is no link: see admin.trace_links")

    def action_copy(self) -> None:
        job = self.chosen()
        if job is not None:
            self.copy_to_clipboard(job["trace_id"])
            self.notify(job["trace_id"], title="copied", markup=False)

    def _sheet(self, make: Any) -> None:
        def work() -> None:
            try:
                content = make()
            except WatchError as error:
                self.call_from_thread(self._say, str(error))
                return
            self.call_from_thread(self.push_screen, Sheet(*content))

        self.run_worker(work, thread=True, group="sheet", exclusive=True)


def read_filter(text: str) -> dict[str, str]:
    """``name=value`` words; a word without a name is a trace id, or a queue."""
    wanted = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if equals:
            wanted[name] = value
        elif len(word.replace("-", "")) == 32 and not set(word.lower()) - set("0123456789abcdef-"):
            wanted["trace_id"] = word
        else:
            wanted["queue"] = word
    return wanted


def _row(job: dict[str, Any]) -> str:
    return f"{job['framework']}\n{job['queue']}\n{job['id']}\n{job['trace_id']}"
