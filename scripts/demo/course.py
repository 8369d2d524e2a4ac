"""The course of the demonstration of data in: what is done to an instance, scene by scene.

Promises: every scene ends with checks; nothing is taken from what an earlier scene found.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.tables import file_pipeline, remap_pipeline
from scripts.demo.checks import Checks
from scripts.demo.inputs import SEED, Inputs
from scripts.demo.instance import Breach, Instance, insist
from scripts.demo.leftovers import Kept
from scripts.demo.pieces import Line, Suffered
from scripts.demo.planted import ATTRIBUTES, NO_ID, WOMEN, Copy
from scripts.demo.refused import differences, downloaded
from scripts.demo.watched import Browser

MIB = 2**20
RANGED = ("packets.zip", "encoding.csv")
PIECES = 64
SMALLEST_PIECE, LARGEST_PIECE = 16 * 1024, 4 * MIB
KILL_IN = (("reading", 0.05), ("building", 0.0))
"""In which stage, and from which progress of the whole job on, the app is killed."""
CANCEL_AT = 0.3
FEW_MIB = 128
"""The least that a job may have, and too little for a row that takes many times its size."""
LOOK_SECONDS = 0.05
LEAST_STEPS = 5
ENDED = ("complete", "error", "cancelled", "lost")
BUDGET: dict[str, Any] = {"Cores": 2, "MemoryMiB": 2048}
SIZES: dict[str, dict[str, int]] = {
    "small": {"Cores": 1, "MemoryMiB": 512, "Minutes": 15},
    "large": {"Cores": 2, "MemoryMiB": 1024, "Minutes": 60},
}


class Course:
    """The course of the demonstration over one instance."""

    def __init__(self, instance: Instance, inputs: Inputs, seconds: float) -> None:
        """Begin with an instance that is up."""
        self._instance = instance
        self._inputs = inputs
        self._server = instance.server()
        self._until = time.monotonic() + seconds
        self._user = instance.cvf("whoami")["userId"]
        self.checks = Checks()
        self.suffered = Suffered()
        self.browser: Browser | None = None
        self.jobs: dict[str, str] = {}
        self.sources: dict[str, str] = {}

    def run(self, pictures: Path) -> None:
        """Go through everything but the last look."""
        server = self._server
        for name in ("packets", "table"):
            self.sources[name] = self._instance.cvf("sources", "create", name)["sourceId"]
        words = [word for each in self.sources.values() for word in ("--source", each)]
        self._instance.cvf(
            "groups", "create", "demo", "--policy", "list", "--user", self._user, *words
        )
        made = [file_pipeline("table"), remap_pipeline("columns")]
        file_way, column_way = (
            server.send("POST", "/pipelines/", each)["pipelineId"] for each in made
        )
        source = self.sources["table"]
        declared = server.send("PUT", f"/sources/{source}/attributes", ATTRIBUTES)
        self._follow(declared["jobId"])
        prior = self._upload("table", "prior.csv", Copy(self._inputs.prior))
        self._follow(self._start("ingest", "table", prior, file_way))
        self._follow(self._start("remap", "table", prior, column_way))
        self._old("at first")

        packets = self._upload("packets", "packets.zip", Copy(self._inputs.packets))
        beside = self._start("ingest", "packets", packets)
        self._refuse_copies(file_way)
        table = self._upload("table", "table.csv", Copy(self._inputs.table))
        self.checks.equal("phenopackets: job", "complete", self._follow(beside)["state"])
        self._picture(pictures / "packets.png")
        self._stop_by_memory(file_way)
        self._follow(self._start("ingest", "table", table, file_way))
        self._cancel(table, column_way)
        job = self._kill_twice(table, column_way, pictures)
        self._last(job)
        self._picture(pictures / "end.png")

    def corrupted(self) -> None:
        """Make one expectation wrong: forget one planted row, and expect another."""
        refused = self._inputs.planted.refused
        line = next(iter(refused))
        refused[line + 1] = refused.pop(line)

    # The scenes

    def _refuse_copies(self, pipeline: str) -> None:
        for name, fault in self._inputs.planted.faults.items():
            copy = Copy(self._inputs.table, fault)
            file = self._upload("table", f"{name}.csv", copy)
            job = self._follow(self._start("ingest", "table", file, pipeline))
            said = _why(job)
            told = f"Line {fault.line}" in said
            self.checks.note(
                f"broken {name}: refused whole, with the line",
                f"input, line {fault.line}",
                f"{_cause(job)}, line {fault.line}" if told else f"{_cause(job)}: {said}",
                good=told and (job["state"], _cause(job)) == ("error", "input"),
            )
            self._old(f"after broken {name}")
            self._delete(file)

    def _stop_by_memory(self, pipeline: str) -> None:
        file = self._upload("table", "hungry.csv", Copy(self._inputs.hungry))
        few = {name: {**size, "MemoryMiB": FEW_MIB} for name, size in SIZES.items()}
        self._configure(few)
        job = self._follow(self._start("ingest", "table", file, pipeline))
        self.checks.equal(
            f"ingest stopped by its limit of {FEW_MIB} MiB",
            ("error", "limit"),
            (job["state"], _cause(job)),
        )
        self._old("after the limit")
        self._configure(SIZES)
        self._delete(file)

    def _cancel(self, file: str, pipeline: str) -> None:
        job_id = self._start("remap", "table", file, pipeline)
        asked = False
        for job in self._watch(job_id):
            if not asked and job["progress"] >= CANCEL_AT:
                asked = True
                insist(lambda: self._server.send("PUT", f"/jobs/{job_id}/cancel"))
        self.checks.equal("cancelled in mid-run", (True, "cancelled"), (asked, self._end(job_id)))
        self._old("after the cancel")

    def _kill_twice(self, file: str, pipeline: str, pictures: Path) -> dict[str, Any]:
        job_id = self._start("remap", "table", file, pipeline)
        killed: list[str] = []
        outlived: list[int] = []
        for job in self._watch(job_id):
            if len(killed) == len(KILL_IN) or job["attempts"] != len(killed) + 1:
                continue
            stage, share = KILL_IN[len(killed)]
            if job["stage"] != stage or job["progress"] < share:
                continue
            self._picture(pictures / f"{stage}.png")
            children, left = self._instance.kill()
            print(f"app with {children} children killed in {stage}, {job['progress']:.0%}")
            killed.append(stage)
            outlived += left
            self._old(f"after the kill in {stage}")
        job = self._job(job_id)
        self.checks.equal("killed in the stages", [stage for stage, _ in KILL_IN], killed)
        self.checks.equal("children that outlived their app", [], outlived)
        self.checks.equal("then: state, attempts", ("complete", 3), (job["state"], job["attempts"]))
        return job

    def _last(self, job: dict[str, Any]) -> None:
        """Ask everything."""
        inputs, planted = self._inputs, self._inputs.planted
        prior = {one.name: one.people for one in inputs.prior_counts}
        for name, query, count in planted.counts():
            wanted = count + prior.get(name, 0)
            self.checks.equal(f"table: {name}", wanted, self._count("table", query))
        ids = self._ids("table", planted.counts()[-1].query)
        self.checks.same("table: their ids", planted.joined(), ids)
        self.checks.equal("phenopackets: everybody", inputs.people, self._count("packets", {}))
        self.checks.equal("phenopackets: women", inputs.women, self._count("packets", WOMEN))
        address, token = self._server.address, self._instance.token()
        found = downloaded(address, token, self.sources["table"], job)
        wrong = differences(planted.refused, found)
        self.checks.equal("refused rows", len(planted.refused), len(found))
        self.checks.equal("refused rows: lines and reasons that differ", "", wrong)
        for kind, count in sorted(planted.kinds().items()):
            said = sum(one == kind for one in found.values())
            self.checks.equal(f"refused rows: {kind}", count, said)
        # One line more is planted in a copy of the expectation, and must be missed.
        noticed = bool(differences({**planted.refused, 1: NO_ID}, found))
        self.checks.at_least("a wrong expectation is noticed", 1, int(noticed))

    def look_around(self) -> None:
        """Look at what is on the disk and in the database."""
        kept = Kept(self._instance)
        findings = kept.findings()
        for sentence in findings[:20]:
            print(f"  {sentence}")
        self.checks.equal("left on the disk or in the database", 0, len(findings))
        log = (self._instance.layout.logs / "app.log").read_text(errors="replace")
        self.checks.equal("bare tracebacks in the log", 0, log.count("Traceback (most recent"))
        hosts = self._server.get("/jobs/resources")["hosts"]
        used = [one["used"] for one in hosts if any(one["used"].values())]
        self.checks.equal("cores and memory still reserved", [], used)
        held = ", ".join(f"{one['host']} by {one['enforcement']}" for one in hosts)
        print(f"limits of jobs are held on {held}")
        rows = ", ".join(f"{name} {size}" for name, size in kept.sizes.items())
        print(f"documents in the database: {rows}")

    def page(self) -> None:
        """Hold what the page saw against what the instance says."""
        if self.browser is None:
            return
        until = time.monotonic() + 20
        while True:
            seen = json.loads(self.browser.page.value("JSON.stringify(globalThis.seen)"))
            shown = {
                job_id: (seen["jobs"].get(job_id, {}).get("states") or ["unseen"])[-1]
                for job_id in self.jobs
            }
            if shown == self.jobs or time.monotonic() > until:
                break
            time.sleep(0.2)
        good = sum(shown[job_id] == state for job_id, state in self.jobs.items())
        self.checks.equal("page: jobs heard to end as they did", len(self.jobs), good)
        steps = max((len(set(one["progress"])) for one in seen["jobs"].values()), default=0)
        self.checks.at_least("page: steps heard of one job", LEAST_STEPS, steps)
        most = len(KILL_IN) + 1
        self.checks.at_least("page: connections, some after kills", most, seen["connections"])
        heard = ", ".join(f"{name} {count}" for name, count in sorted(seen["heard"].items()))
        print(f"the page heard {seen['messages']} messages: {heard}")

    # What the scenes are made of

    def _configure(self, sizes: dict[str, Any]) -> None:
        self._instance.configure({"Jobs": BUDGET | {"Sizes": sizes}})
        self._server = self._instance.server()

    def _upload(self, source: str, name: str, content: Copy) -> str:
        line = Line(self._server, self._instance.token, SEED + len(name))
        piece = min(max(content.size // PIECES, SMALLEST_PIECE), LARGEST_PIECE)
        begin = time.monotonic()
        # Both published ways: the chunks of a form for one file, ranges for the next.
        way = line.send_ranges if name in RANGED else line.send
        made = way(self.sources[source], name, content, piece)
        took, told = time.monotonic() - begin, line.suffered
        print(
            f"{name}: {content.size / MIB:.1f} MiB in {told.pieces} pieces, {told.cut} cut off,"
            f" {told.again} sent twice, {told.reordered} out of order, {took:.1f} s",
            flush=True,
        )
        self.suffered += told
        return made

    def _start(self, what: str, source: str, file: str, pipeline: str | None = None) -> str:
        asked: dict[str, Any] = {"dataFileIDs": [file]}
        if pipeline is not None:
            asked["pipelineID"] = pipeline
        path = f"/sources/{self.sources[source]}/{what}"
        job_id = str(self._server.send("POST", path, asked)["jobId"])
        self.jobs[job_id] = "waiting"
        return job_id

    def _follow(self, job_id: str) -> dict[str, Any]:
        for _ in self._watch(job_id):
            pass
        return self._job(job_id)

    def _watch(self, job_id: str) -> Iterator[dict[str, Any]]:
        while (job := self._job(job_id))["state"] not in ENDED:
            yield job
            if time.monotonic() > self._until:
                raise Breach("this takes far too long")
            time.sleep(LOOK_SECONDS)
        self.jobs[job_id] = job["state"]
        last = job["status"][-1]
        took = last["timestamp"] - job["createdAt"]
        print(f"job {job['task']}: {job['state']} after {took} s {_why(job)}", flush=True)

    def _delete(self, file: str) -> None:
        asked = self._server.send("DELETE", f"/datafiles/{file}")
        if asked.get("jobId"):
            self._follow(asked["jobId"])

    def _job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = insist(lambda: self._server.get(f"/jobs/{job_id}"))
        return job

    def _end(self, job_id: str) -> str:
        return str(self._job(job_id)["state"])

    def _old(self, when: str) -> None:
        """Check that the source of tables answers what it held before."""
        asked = self._inputs.prior_counts
        wanted = [one.people for one in asked]
        found = [self._count("table", one.query) for one in asked]
        self.checks.equal(f"old data answers, {when}", wanted, found)

    def _count(self, source: str, query: dict[str, Any]) -> object:
        return self._ask(source, query).get("recordCount")

    def _ids(self, source: str, query: dict[str, Any]) -> list[str]:
        details = self._ask(source, query).get("resultDetails", {})
        return sorted(one["subjectId"] for one in details.get("subjects", []))

    def _ask(self, source: str, query: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(query | {"sources": {"sources": [self.sources[source]]}}).encode()

        def ask() -> dict[str, Any]:
            headers = {"Prefer": "wait=60"}
            answer = self._server.call("POST", "/record/", body=body, headers=headers)
            found = [one for response in answer["responses"] for one in response["messageData"]]
            return dict(found[0]) if len(found) == 1 else {}

        return insist(ask)

    def _picture(self, path: Path) -> None:
        if self.browser is not None:
            print(f"picture: {self.browser.page.picture(path)}", flush=True)


def _cause(job: dict[str, Any]) -> str:
    return str((job["status"][-1].get("error") or {}).get("cause", ""))


def _why(job: dict[str, Any]) -> str:
    return str((job["status"][-1].get("error") or {}).get("message", ""))
