-- Webhooks that a receiver can rely on: headers of an endpoint, every secret that still signs, requests that are safe to
-- retry, and what dispatchers have learned about receivers. A version that does not know these columns may go on to
-- write the table.

-- headers: further headers of each delivery, as a JSON object. The values are secrets, kept as they are, because they
-- are sent. earlier_secrets: the secrets before the previous one that still sign, newest first: `until:secret`, by
-- spaces. created_by, rotated_by: the idempotency keys and the requests that created the endpoint and last rotated its
-- secret: two digests of 32 bytes.
-- One statement adds all columns, so either all are there or none. (0005 says why it is spelt out.)
SET @missing = (SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'webhook_endpoints' AND column_name = 'headers');
SET @add = IF(@missing, 'ALTER TABLE webhook_endpoints
    ADD COLUMN headers         TEXT CHARACTER SET ascii COLLATE ascii_bin NULL,
    ADD COLUMN earlier_secrets TEXT CHARACTER SET ascii COLLATE ascii_bin NULL,
    ADD COLUMN created_by      VARBINARY(64) NULL,
    ADD COLUMN rotated_by      VARBINARY(64) NULL', 'DO 0');
PREPARE add_columns FROM @add;
EXECUTE add_columns;
DEALLOCATE PREPARE add_columns;

-- One row per endpoint that failed since its last delivery, or that has too many deliveries pending. Apart from the
-- endpoints, because consumers lock those while they enqueue.
CREATE TABLE IF NOT EXISTS webhook_health (
    endpoint_id   BINARY(16) NOT NULL,
    failures      INT        NOT NULL DEFAULT 0,
    failing_since BIGINT     NULL,
    paused_until  BIGINT     NULL,
    gone          INT        NOT NULL DEFAULT 0,
    gone_since    BIGINT     NULL,
    is_full       TINYINT    NOT NULL DEFAULT 0,
    PRIMARY KEY (endpoint_id),
    CONSTRAINT webhook_health_failures CHECK (failures >= 0),
    CONSTRAINT webhook_health_gone     CHECK (gone >= 0),
    CONSTRAINT webhook_health_full     CHECK (is_full IN (0, 1))
) ENGINE = InnoDB;
