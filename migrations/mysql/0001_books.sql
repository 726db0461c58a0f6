-- The books: what there is, who has it, and what happened.
-- Times are microseconds since 1970-01-01 UTC. Ids and tokens are compared byte by byte.
-- IF NOT EXISTS: MySQL commits each CREATE TABLE by itself, so a migration that was cut off is simply run again.

CREATE TABLE IF NOT EXISTS resources (
    id         VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    total      BIGINT       NOT NULL,
    available  BIGINT       NOT NULL,
    version    BIGINT       NOT NULL,
    fulfilment VARCHAR(16)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    created_at BIGINT       NOT NULL,
    updated_at BIGINT       NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT resources_id         CHECK (id <> ''),
    CONSTRAINT resources_total      CHECK (total BETWEEN 0 AND 9007199254740991),
    CONSTRAINT resources_available  CHECK (available BETWEEN 0 AND total),
    CONSTRAINT resources_version    CHECK (version >= 1),
    CONSTRAINT resources_fulfilment CHECK (fulfilment IN ('NONE', 'SMART_KEY'))
) ENGINE = InnoDB;

-- One row per item. What belongs to the reservation as a whole (key, fingerprint, holder, metadata) is on item 0;
-- status, version and times are on every item, and always equal. Keys are VARBINARY, so that `k` and `k ` differ.
-- due_at is there only while the units are held: MySQL has no partial indexes.
CREATE TABLE IF NOT EXISTS reservations (
    token           BINARY(16)   NOT NULL,
    item_no         SMALLINT     NOT NULL,
    resource_id     VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    quantity        BIGINT       NOT NULL,
    status          VARCHAR(9)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version         BIGINT       NOT NULL,
    created_at      BIGINT       NOT NULL,
    expires_at      BIGINT       NOT NULL,
    updated_at      BIGINT       NOT NULL,
    scope           VARBINARY(64) NOT NULL DEFAULT '',
    idempotency_key VARBINARY(255) NULL,
    fingerprint     BINARY(16)   NULL,
    holder          VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    metadata        MEDIUMTEXT   CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    due_at          BIGINT       GENERATED ALWAYS AS (CASE WHEN status = 'HELD' THEN expires_at END) STORED,
    PRIMARY KEY (token, item_no),
    -- The reservation is the idempotency record.
    UNIQUE KEY reservations_key (scope, idempotency_key),
    -- Due holds anywhere: the timer.
    KEY reservations_due (due_at, item_no),
    -- Due holds of one resource: expiry on demand, and what is available to a reader.
    KEY reservations_due_of_resource (resource_id, due_at, quantity),
    CONSTRAINT reservations_item_no     CHECK (item_no >= 0),
    CONSTRAINT reservations_quantity    CHECK (quantity >= 1),
    CONSTRAINT reservations_status      CHECK (status IN ('HELD', 'COMMITTED', 'RELEASED', 'EXPIRED', 'CANCELLED')),
    CONSTRAINT reservations_version     CHECK (version >= 1),
    CONSTRAINT reservations_first_key   CHECK ((item_no = 0) = (idempotency_key IS NOT NULL)),
    CONSTRAINT reservations_first_print CHECK ((item_no = 0) = (fingerprint IS NOT NULL))
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS outbox (
    id           BIGINT       NOT NULL AUTO_INCREMENT,
    event_id     BINARY(16)   NOT NULL,
    shard        TINYINT      NOT NULL,
    event_key    VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    key_version  BIGINT       NOT NULL,
    type         VARCHAR(64)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    payload      MEDIUMTEXT   CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    created_at   BIGINT       NOT NULL,
    published_at BIGINT       NULL,
    PRIMARY KEY (id),
    -- What a relay reads: unpublished rows in id order.
    KEY outbox_unpublished (published_at, id, shard),
    CONSTRAINT outbox_shard       CHECK (shard BETWEEN 0 AND 63),
    CONSTRAINT outbox_key_version CHECK (key_version >= 1)
) ENGINE = InnoDB;
