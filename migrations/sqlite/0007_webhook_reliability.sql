-- Webhooks that a receiver can rely on: headers of an endpoint, every secret that still signs, requests that are safe to
-- retry, and what dispatchers have learned about receivers. A version that does not know these columns may go on to
-- write the table.

-- Further headers of each delivery, as a JSON object. The values are secrets, kept as they are, because they are sent.
ALTER TABLE webhook_endpoints ADD COLUMN headers TEXT;
-- The secrets before the previous one that still sign, newest first: `until:secret`, by spaces.
ALTER TABLE webhook_endpoints ADD COLUMN earlier_secrets TEXT;
-- The idempotency keys and the requests that created the endpoint and last rotated its secret: two digests of 32 bytes.
ALTER TABLE webhook_endpoints ADD COLUMN created_by BLOB CHECK (length(created_by) = 64);
ALTER TABLE webhook_endpoints ADD COLUMN rotated_by BLOB CHECK (length(rotated_by) = 64);

-- One row per endpoint that failed since its last delivery, or that has too many deliveries pending. Apart from the
-- endpoints, because consumers lock those while they enqueue.
CREATE TABLE webhook_health (
    endpoint_id   BLOB    NOT NULL PRIMARY KEY CHECK (length(endpoint_id) = 16),
    failures      INTEGER NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failing_since INTEGER,
    paused_until  INTEGER,
    gone          INTEGER NOT NULL DEFAULT 0 CHECK (gone >= 0),
    gone_since    INTEGER,
    is_full       INTEGER NOT NULL DEFAULT 0 CHECK (is_full IN (0, 1))
) STRICT, WITHOUT ROWID;
