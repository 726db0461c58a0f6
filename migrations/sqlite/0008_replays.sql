-- When an event was first published, if an operator had it published again: published_at is set to it, so that events
-- of one key are still deleted in their order.
ALTER TABLE outbox ADD COLUMN first_published_at INTEGER;
-- What is purged.
CREATE INDEX outbox_skipped_at ON outbox_skipped (skipped_at);
-- Whether an event is the first unpublished one of its key.
CREATE INDEX outbox_key ON outbox (event_key, id) WHERE published_at IS NULL;
