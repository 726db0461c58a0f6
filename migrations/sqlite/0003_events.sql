-- What is done with events: who relays them, which keys wait, what a consumer has applied, and the keys that it issued.
-- Times are microseconds since 1970-01-01 UTC. Ids are 16 bytes.

-- One row per shard of the outbox, one for those who share it, and one for each of these while it lives.
CREATE TABLE leases (
    name       TEXT    NOT NULL PRIMARY KEY,
    owner      BLOB    CHECK (length(owner) = 16),
    fencing    INTEGER NOT NULL CHECK (fencing >= 0),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A failure blocks its key, not its row: what comes after it must not overtake it.
CREATE TABLE outbox_blocked (
    event_key     TEXT    NOT NULL PRIMARY KEY,
    event_id      BLOB    NOT NULL CHECK (length(event_id) = 16),
    blocked_until INTEGER NOT NULL,
    attempts      INTEGER NOT NULL CHECK (attempts >= 0),
    parked        INTEGER NOT NULL CHECK (parked IN (0, 1)),
    reason        TEXT    NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Events that an operator gave up: they count as published, and are in no event log.
CREATE TABLE outbox_skipped (
    event_id   BLOB    NOT NULL PRIMARY KEY CHECK (length(event_id) = 16),
    skipped_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What a consumer has applied: an event's row is written with its effects.
CREATE TABLE processed_events (
    consumer     TEXT    NOT NULL,
    event_id     BLOB    NOT NULL CHECK (length(event_id) = 16),
    processed_at INTEGER NOT NULL,
    PRIMARY KEY (consumer, event_id)
) STRICT, WITHOUT ROWID;

-- What is purged.
CREATE INDEX processed_events_at ON processed_events (processed_at);

-- One row per reservation that has an item which a key opens. The version is that of the last event that was applied, also
-- where no key was issued: an older event changes nothing any more.
CREATE TABLE smart_keys (
    token      BLOB    NOT NULL PRIMARY KEY CHECK (length(token) = 16),
    version    INTEGER NOT NULL CHECK (version >= 1),
    code       BLOB    CHECK (length(code) = 16),
    issued_at  INTEGER,
    revoked_at INTEGER,
    CHECK ((code IS NULL) = (issued_at IS NULL))
) STRICT, WITHOUT ROWID;

-- Events that no consumer could apply, where the event log has no topic for them.
CREATE TABLE dead_letters (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    source     TEXT    NOT NULL,
    part       INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    event_key  BLOB,
    headers    TEXT    NOT NULL,
    value      BLOB,
    reason     TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Dead letters of a topic that were replayed or dropped: a topic cannot forget single records.
CREATE TABLE dead_letters_settled (
    topic      TEXT    NOT NULL,
    part       INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    settled    TEXT    NOT NULL CHECK (settled IN ('REPLAYED', 'DROPPED')),
    settled_at INTEGER NOT NULL,
    PRIMARY KEY (topic, part, position)
) STRICT, WITHOUT ROWID;
