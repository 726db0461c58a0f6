-- For operators: which programs may run on this schema, and what the last audit found. One row each.

-- The oldest version of the program that works on this schema. A migration that an older version would not survive raises it.
CREATE TABLE schema_floor (
    one     INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    version TEXT    NOT NULL
) STRICT;

INSERT INTO schema_floor (one, version) VALUES (1, '0.2.0');

-- The result of the last `verify --record`.
CREATE TABLE verifications (
    one         INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    verified_at INTEGER NOT NULL,
    findings    INTEGER NOT NULL CHECK (findings >= 0)
) STRICT;
