-- What was purged: from kept_since on, every row of a table that was ever written is there, or purged by its own rule.
-- Published events are found, oldest first, by the index that unpublished ones are found by.
CREATE TABLE IF NOT EXISTS retention (
    what       VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    kept_since BIGINT      NOT NULL,
    PRIMARY KEY (what)
) ENGINE = InnoDB;

INSERT IGNORE INTO retention (what, kept_since) VALUES ('outbox', 0), ('reservations', 0);
