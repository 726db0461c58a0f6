-- What was purged: from kept_since on, every row of a table that was ever written is there, or purged by its own rule.
CREATE TABLE retention (
    what       TEXT    NOT NULL PRIMARY KEY CHECK (what IN ('outbox', 'reservations')),
    kept_since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO retention (what, kept_since) VALUES ('outbox', 0), ('reservations', 0);

-- Published events, oldest first: what is purged. Written only when an event is marked as published.
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;
