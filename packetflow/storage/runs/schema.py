"""The tables of runs in SQLite."""

from __future__ import annotations

from packetflow.storage.schema import Schema

RUNS = Schema(
    "runs",
    (
        """
        CREATE TABLE plans (digest TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
        CREATE TABLE runs (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            composition TEXT NOT NULL,
            version TEXT NOT NULL,
            plan TEXT NOT NULL,
            state TEXT NOT NULL,
            principal TEXT NOT NULL,
            tenant TEXT NOT NULL,
            rights TEXT NOT NULL,
            payload BLOB NOT NULL,
            started REAL NOT NULL,
            updated REAL NOT NULL,
            ended REAL,
            expires REAL,
            result BLOB,
            error BLOB,
            key TEXT,
            contracts BLOB NOT NULL,
            steps INTEGER NOT NULL DEFAULT 0,
            retries INTEGER NOT NULL DEFAULT 0,
            attempts INTEGER NOT NULL DEFAULT 1,
            note TEXT NOT NULL DEFAULT '',
            generation INTEGER NOT NULL DEFAULT 0,
            origin TEXT NOT NULL DEFAULT '',
            format INTEGER NOT NULL
        );
        CREATE UNIQUE INDEX runs_key ON runs (key) WHERE key IS NOT NULL;
        CREATE INDEX runs_open ON runs (state, number) WHERE ended IS NULL;
        CREATE INDEX runs_ended ON runs (ended) WHERE ended IS NOT NULL;
        CREATE INDEX runs_expiring ON runs (expires) WHERE ended IS NULL AND expires IS NOT NULL;
        CREATE TABLE journal (
            run INTEGER NOT NULL,
            place TEXT NOT NULL,
            kind TEXT NOT NULL,
            label TEXT NOT NULL,
            capability TEXT NOT NULL,
            body BLOB NOT NULL,
            at REAL NOT NULL,
            seconds REAL NOT NULL,
            PRIMARY KEY (run, place)
        ) WITHOUT ROWID;
        CREATE TABLE waits (
            run INTEGER NOT NULL,
            place TEXT NOT NULL,
            kind TEXT NOT NULL,
            label TEXT NOT NULL,
            since REAL NOT NULL,
            due REAL,
            event TEXT NOT NULL,
            match TEXT,
            scope BLOB NOT NULL,
            PRIMARY KEY (run, place, event)
        ) WITHOUT ROWID;
        CREATE INDEX waits_due ON waits (due) WHERE due IS NOT NULL;
        CREATE INDEX waits_event ON waits (event, run, place) WHERE event != '';
        CREATE TABLE run_events (
            run INTEGER NOT NULL,
            id TEXT NOT NULL,
            name TEXT NOT NULL,
            payload BLOB NOT NULL,
            at REAL NOT NULL,
            taken INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (run, id)
        ) WITHOUT ROWID;
        CREATE TABLE approvals (
            id TEXT PRIMARY KEY,
            run INTEGER NOT NULL,
            place TEXT NOT NULL,
            label TEXT NOT NULL,
            who TEXT NOT NULL,
            subject TEXT NOT NULL,
            opened REAL NOT NULL,
            deadline REAL,
            on_timeout TEXT NOT NULL,
            state TEXT NOT NULL,
            decided_by TEXT NOT NULL DEFAULT '',
            decided_at REAL,
            comment TEXT NOT NULL DEFAULT '',
            answers BLOB NOT NULL DEFAULT x'7b7d'
        ) WITHOUT ROWID;
        CREATE INDEX approvals_open ON approvals (opened) WHERE state = 'open';
        CREATE INDEX approvals_run ON approvals (run, place);
        """,
    ),
)
