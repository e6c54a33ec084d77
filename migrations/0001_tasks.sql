-- Tasks, keys, epochs, leases, intents, cells and the audit.
-- Times are milliseconds since 1970 (wall time): for people, they decide nothing.

CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    cell TEXT NOT NULL,
    instruction TEXT NOT NULL,
    max_duration_s INTEGER NOT NULL CHECK (max_duration_s BETWEEN 1 AND 86400),
    labels TEXT NOT NULL CHECK (json_valid(labels)),
    state TEXT NOT NULL CHECK (state IN ('queued', 'leased', 'running', 'pausing', 'paused',
        'cancelling', 'cancelled', 'succeeded', 'failed', 'expired', 'interrupted')),
    reason TEXT,
    attempt INTEGER NOT NULL DEFAULT 0 CHECK (0 <= attempt),
    epoch INTEGER,
    seed INTEGER NOT NULL CHECK (0 <= seed),
    submitted_at_ms INTEGER NOT NULL,
    started_at_ms INTEGER,
    ended_at_ms INTEGER,
    verdict_result TEXT CHECK (verdict_result IN ('succeeded', 'failed', 'requeue')),
    verdict_operator TEXT,
    verdict_reason TEXT,
    verdict_at_ms INTEGER,
    FOREIGN KEY (cell, epoch) REFERENCES leases (cell, epoch) DEFERRABLE INITIALLY DEFERRED
) STRICT;

-- At most one task holds a cell, whatever the code above believes.
CREATE UNIQUE INDEX tasks_one_holder ON tasks (cell)
    WHERE state IN ('leased', 'running', 'pausing', 'paused', 'cancelling');
CREATE INDEX tasks_by_state ON tasks (state, cell, id);
CREATE INDEX tasks_by_cell ON tasks (cell, id);

-- The end is the end, whatever the code above believes.
CREATE TRIGGER tasks_end_is_final BEFORE UPDATE ON tasks
    WHEN OLD.state IN ('cancelled', 'succeeded', 'failed', 'expired') AND NEW.state <> OLD.state
    BEGIN SELECT RAISE(ABORT, 'a task that is over stays over'); END;

CREATE TABLE idempotency_keys (
    client TEXT NOT NULL,
    key TEXT NOT NULL,
    body_digest BLOB NOT NULL CHECK (length(body_digest) = 32),
    task TEXT NOT NULL REFERENCES tasks (id),
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (client, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (at_ms);

CREATE TABLE epochs (
    cell TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL CHECK (0 < epoch)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER epochs_grow BEFORE UPDATE ON epochs WHEN NEW.epoch <= OLD.epoch
    BEGIN SELECT RAISE(ABORT, 'an epoch only grows'); END;
CREATE TRIGGER epochs_stay BEFORE DELETE ON epochs
    BEGIN SELECT RAISE(ABORT, 'an epoch is never forgotten'); END;

CREATE TABLE leases (
    cell TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    holder TEXT NOT NULL,
    task TEXT NOT NULL REFERENCES tasks (id),
    attempt INTEGER NOT NULL CHECK (0 < attempt),
    ttl_ms INTEGER NOT NULL,
    granted_at_ms INTEGER NOT NULL,
    released_at_ms INTEGER,
    PRIMARY KEY (cell, epoch),
    UNIQUE (task, attempt)
) STRICT, WITHOUT ROWID;

-- One intent an attempt: motion happens at most once for each try.
CREATE TABLE intents (
    task TEXT NOT NULL REFERENCES tasks (id),
    attempt INTEGER NOT NULL CHECK (0 < attempt),
    cell TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    plan_hash BLOB NOT NULL,
    pose BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (task, attempt),
    FOREIGN KEY (cell, epoch) REFERENCES leases (cell, epoch)
) STRICT, WITHOUT ROWID;

-- A latched mode outlives the daemon: a restart is no reset.
CREATE TABLE cells (
    cell TEXT PRIMARY KEY,
    latched_mode TEXT NOT NULL,
    latched_reason TEXT NOT NULL,
    latched_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who changed what, and why. Each row carries the hash of the one before it.
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state TEXT NOT NULL,
    reason TEXT NOT NULL,
    epoch INTEGER,
    prev_hash BLOB NOT NULL CHECK (length(prev_hash) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE INDEX audit_by_object ON audit (object, seq);
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
