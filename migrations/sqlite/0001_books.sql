-- The books: what there is, who has it, and what happened.
-- Times are microseconds since 1970-01-01 UTC. STRICT: a column holds its type or nothing.

CREATE TABLE resources (
    id         TEXT    NOT NULL PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 128),
    total      INTEGER NOT NULL CHECK (total BETWEEN 0 AND 9007199254740991),
    available  INTEGER NOT NULL CHECK (available >= 0),
    version    INTEGER NOT NULL CHECK (version >= 1),
    fulfilment TEXT    NOT NULL CHECK (fulfilment IN ('NONE', 'SMART_KEY')),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CHECK (available <= total)
) STRICT, WITHOUT ROWID;

-- One row per item. What belongs to the reservation as a whole (key, fingerprint, holder, metadata) is on item 0;
-- status, version and times are on every item, and always equal.
CREATE TABLE reservations (
    token           BLOB    NOT NULL CHECK (length(token) = 16),
    item_no         INTEGER NOT NULL CHECK (item_no >= 0),
    resource_id     TEXT    NOT NULL,
    quantity        INTEGER NOT NULL CHECK (quantity >= 1),
    status          TEXT    NOT NULL CHECK (status IN ('HELD', 'COMMITTED', 'RELEASED', 'EXPIRED', 'CANCELLED')),
    version         INTEGER NOT NULL CHECK (version >= 1),
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    scope           TEXT    NOT NULL DEFAULT '',
    idempotency_key TEXT,
    fingerprint     BLOB    CHECK (length(fingerprint) = 16),
    holder          TEXT,
    metadata        TEXT,
    PRIMARY KEY (token, item_no),
    CHECK ((item_no = 0) = (idempotency_key IS NOT NULL)),
    CHECK ((item_no = 0) = (fingerprint IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- The reservation is the idempotency record.
CREATE UNIQUE INDEX reservations_key ON reservations (scope, idempotency_key) WHERE idempotency_key IS NOT NULL;
-- Due holds anywhere: the timer.
CREATE INDEX reservations_due ON reservations (expires_at) WHERE status = 'HELD' AND item_no = 0;
-- Due holds of one resource: expiry on demand, and what is available to a reader.
CREATE INDEX reservations_due_of_resource ON reservations (resource_id, expires_at, quantity) WHERE status = 'HELD';

CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY,
    event_id     BLOB    NOT NULL CHECK (length(event_id) = 16),
    shard        INTEGER NOT NULL CHECK (shard BETWEEN 0 AND 63),
    event_key    TEXT    NOT NULL,
    key_version  INTEGER NOT NULL CHECK (key_version >= 1),
    type         TEXT    NOT NULL,
    payload      TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    published_at INTEGER
) STRICT;

-- What a relay reads: unpublished rows in id order. Not by shard: one file has few relays, and an index that begins
-- with the shard would spread each batch over as many pages.
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;
