-- What is done with events: who relays them, which keys wait, what a consumer has applied, and the keys that it issued.
-- Times are microseconds since 1970-01-01 UTC. Ids are 16 bytes.

-- One row per shard of the outbox, one for those who share it, and one for each of these while it lives.
CREATE TABLE IF NOT EXISTS leases (
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    owner      BINARY(16)  NULL,
    fencing    BIGINT      NOT NULL,
    expires_at BIGINT      NOT NULL,
    PRIMARY KEY (name),
    CONSTRAINT leases_fencing CHECK (fencing >= 0)
) ENGINE = InnoDB;

-- A failure blocks its key, not its row: what comes after it must not overtake it.
CREATE TABLE IF NOT EXISTS outbox_blocked (
    event_key     VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    event_id      BINARY(16)   NOT NULL,
    blocked_until BIGINT       NOT NULL,
    attempts      INT          NOT NULL,
    parked        TINYINT      NOT NULL,
    reason        VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    updated_at    BIGINT       NOT NULL,
    PRIMARY KEY (event_key),
    CONSTRAINT outbox_blocked_attempts CHECK (attempts >= 0),
    CONSTRAINT outbox_blocked_parked   CHECK (parked IN (0, 1))
) ENGINE = InnoDB;

-- Events that an operator gave up: they count as published, and are in no event log.
CREATE TABLE IF NOT EXISTS outbox_skipped (
    event_id   BINARY(16) NOT NULL,
    skipped_at BIGINT     NOT NULL,
    PRIMARY KEY (event_id)
) ENGINE = InnoDB;

-- What a consumer has applied: an event's row is written with its effects.
CREATE TABLE IF NOT EXISTS processed_events (
    consumer     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    event_id     BINARY(16)  NOT NULL,
    processed_at BIGINT      NOT NULL,
    PRIMARY KEY (consumer, event_id),
    -- What is purged.
    KEY processed_events_at (processed_at)
) ENGINE = InnoDB;

-- One row per reservation that has an item which a key opens. The version is that of the last event that was applied, also
-- where no key was issued: an older event changes nothing any more.
CREATE TABLE IF NOT EXISTS smart_keys (
    token      BINARY(16) NOT NULL,
    version    BIGINT     NOT NULL,
    code       BINARY(16) NULL,
    issued_at  BIGINT     NULL,
    revoked_at BIGINT     NULL,
    PRIMARY KEY (token),
    CONSTRAINT smart_keys_version CHECK (version >= 1),
    CONSTRAINT smart_keys_issued  CHECK ((code IS NULL) = (issued_at IS NULL))
) ENGINE = InnoDB;

-- Events that no consumer could apply, where the event log has no topic for them.
CREATE TABLE IF NOT EXISTS dead_letters (
    id         BIGINT        NOT NULL AUTO_INCREMENT,
    source     VARCHAR(249)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    part       INT           NOT NULL,
    position   BIGINT        NOT NULL,
    event_key  VARBINARY(1024) NULL,
    headers    MEDIUMTEXT    CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    value      LONGBLOB      NULL,
    reason     VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    attempts   INT           NOT NULL,
    created_at BIGINT        NOT NULL,
    PRIMARY KEY (id)
) ENGINE = InnoDB;

-- Dead letters of a topic that were replayed or dropped: a topic cannot forget single records.
CREATE TABLE IF NOT EXISTS dead_letters_settled (
    topic      VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    part       INT          NOT NULL,
    position   BIGINT       NOT NULL,
    settled    VARCHAR(8)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    settled_at BIGINT       NOT NULL,
    PRIMARY KEY (topic, part, position)
) ENGINE = InnoDB;

