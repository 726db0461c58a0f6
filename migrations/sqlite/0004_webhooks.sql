-- Webhooks: who is told of what, and what they were told.
-- A secret is kept as it is, because it signs; who can read this table can sign.
CREATE TABLE webhook_endpoints (
    id              BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    url             TEXT    NOT NULL,
    -- CloudEvents types, or beginnings of such with a `*` at the end, by spaces; none means all.
    event_types     TEXT    NOT NULL DEFAULT '',
    secret          TEXT    NOT NULL,
    previous_secret TEXT,
    previous_until  INTEGER,
    origin          TEXT    NOT NULL DEFAULT 'api' CHECK (origin IN ('api', 'environment')),
    disabled_reason TEXT,
    disabled_at     INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL)),
    CHECK ((previous_until IS NULL) = (previous_secret IS NULL))
) STRICT, WITHOUT ROWID;

-- One row per event and endpoint. next_attempt_at is there only while another attempt is to be made; under a claim it is
-- when the claim runs out. Each claim has a number, and only the last one may say how its attempt went. AUTOINCREMENT:
-- pages go by id, and an id that was purged must not come again.
CREATE TABLE webhook_deliveries (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint_id     BLOB    NOT NULL CHECK (length(endpoint_id) = 16),
    event_id        BLOB    NOT NULL CHECK (length(event_id) = 16),
    type            TEXT    NOT NULL,
    event_at        INTEGER NOT NULL,
    payload         TEXT    NOT NULL,
    status          TEXT    NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'DELIVERED', 'FAILED')),
    attempts        INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at INTEGER,
    claim           INTEGER NOT NULL DEFAULT 0,
    last_status     INTEGER,
    last_error      TEXT,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    finished_at     INTEGER,
    CHECK ((status = 'PENDING') = (next_attempt_at IS NOT NULL)),
    CHECK ((status = 'PENDING') = (finished_at IS NULL))
) STRICT;

-- An event is delivered to an endpoint once, however often it is enqueued.
CREATE UNIQUE INDEX webhook_deliveries_event ON webhook_deliveries (endpoint_id, event_id);
-- What a dispatcher claims: filter and order.
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, next_attempt_at) WHERE status = 'PENDING';
-- What is listed, by status and id.
CREATE INDEX webhook_deliveries_listed ON webhook_deliveries (endpoint_id, status);
-- What is replayed: a range of the events' times.
CREATE INDEX webhook_deliveries_replayed ON webhook_deliveries (endpoint_id, event_at);
-- What is forgotten, oldest first.
CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE finished_at IS NOT NULL;
