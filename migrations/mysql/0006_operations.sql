-- For operators: which programs may run on this schema, and what the last audit found. One row each.

-- The oldest version of the program that works on this schema. A migration that an older version would not survive raises it.
CREATE TABLE IF NOT EXISTS schema_floor (
    one     TINYINT     NOT NULL,
    version VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    PRIMARY KEY (one),
    CONSTRAINT schema_floor_one CHECK (one = 1)
) ENGINE = InnoDB;

INSERT IGNORE INTO schema_floor (one, version) VALUES (1, '0.2.0');

-- The result of the last `verify --record`. Times are microseconds since 1970-01-01 UTC.
CREATE TABLE IF NOT EXISTS verifications (
    one         TINYINT NOT NULL,
    verified_at BIGINT  NOT NULL,
    findings    BIGINT  NOT NULL,
    PRIMARY KEY (one),
    CONSTRAINT verifications_one      CHECK (one = 1),
    CONSTRAINT verifications_findings CHECK (findings >= 0)
) ENGINE = InnoDB;
