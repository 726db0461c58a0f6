-- Webhooks: who is told of what, and what they were told.
-- A secret is kept as it is, because it signs; who can read this table can sign.
CREATE TABLE IF NOT EXISTS webhook_endpoints (
    id              BINARY(16)    NOT NULL,
    url             VARCHAR(2048) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- CloudEvents types, or beginnings of such with a `*` at the end, by spaces; none means all.
    event_types     VARCHAR(2048) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    secret          VARCHAR(128)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    previous_secret VARCHAR(128)  CHARACTER SET ascii COLLATE ascii_bin NULL,
    previous_until  BIGINT        NULL,
    origin          VARCHAR(16)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'api',
    disabled_reason VARCHAR(255)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    disabled_at     BIGINT        NULL,
    created_at      BIGINT        NOT NULL,
    updated_at      BIGINT        NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT webhook_endpoints_origin   CHECK (origin IN ('api', 'environment')),
    CONSTRAINT webhook_endpoints_disabled CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL)),
    CONSTRAINT webhook_endpoints_previous CHECK ((previous_until IS NULL) = (previous_secret IS NULL))
) ENGINE = InnoDB;

-- One row per event and endpoint. next_attempt_at is there only while another attempt is to be made; under a claim it is
-- when the claim runs out. Each claim has a number, and only the last one may say how its attempt went.
CREATE TABLE IF NOT EXISTS webhook_deliveries (
    id              BIGINT       NOT NULL AUTO_INCREMENT,
    endpoint_id     BINARY(16)   NOT NULL,
    event_id        BINARY(16)   NOT NULL,
    type            VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    event_at        BIGINT       NOT NULL,
    payload         MEDIUMTEXT   CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    status          VARCHAR(9)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'PENDING',
    attempts        INT          NOT NULL DEFAULT 0,
    next_attempt_at BIGINT       NULL,
    claim           BIGINT       NOT NULL DEFAULT 0,
    last_status     SMALLINT     NULL,
    last_error      VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    created_at      BIGINT       NOT NULL,
    updated_at      BIGINT       NOT NULL,
    finished_at     BIGINT       NULL,
    PRIMARY KEY (id),
    -- An event is delivered to an endpoint once, however often it is enqueued.
    UNIQUE KEY webhook_deliveries_event (endpoint_id, event_id),
    -- What a dispatcher claims: filter and order.
    KEY webhook_deliveries_due (endpoint_id, status, next_attempt_at),
    -- What is listed, by status and id.
    KEY webhook_deliveries_listed (endpoint_id, status),
    -- What is replayed: a range of the events' times.
    KEY webhook_deliveries_replayed (endpoint_id, event_at),
    -- What is forgotten, oldest first.
    KEY webhook_deliveries_finished (finished_at),
    CONSTRAINT webhook_deliveries_status   CHECK (status IN ('PENDING', 'DELIVERED', 'FAILED')),
    CONSTRAINT webhook_deliveries_attempts CHECK (attempts >= 0),
    CONSTRAINT webhook_deliveries_next     CHECK ((status = 'PENDING') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT webhook_deliveries_end      CHECK ((status = 'PENDING') = (finished_at IS NULL))
) ENGINE = InnoDB;
