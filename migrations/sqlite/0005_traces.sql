-- Which trace something belongs to: the W3C traceparent of the request that caused it. NULL where none did, as with the
-- timer, and in what was written before.
ALTER TABLE outbox ADD COLUMN traceparent TEXT;
ALTER TABLE webhook_deliveries ADD COLUMN traceparent TEXT;
