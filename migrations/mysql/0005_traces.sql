-- Which trace something belongs to: the W3C traceparent of the request that caused it. NULL where none did, as with the
-- timer, and in what was written before.
-- Only MariaDB has ADD COLUMN IF NOT EXISTS, so that a migration that was cut off can be run again is spelt out. A column
-- at the end of a row is added without a look at the rows that are there.
SET @missing = (SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'outbox' AND column_name = 'traceparent');
SET @add = IF(@missing, 'ALTER TABLE outbox ADD COLUMN traceparent VARCHAR(55) CHARACTER SET ascii COLLATE ascii_bin NULL', 'DO 0');
PREPARE add_column FROM @add;
EXECUTE add_column;
DEALLOCATE PREPARE add_column;

SET @missing = (SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'webhook_deliveries' AND column_name = 'traceparent');
SET @add = IF(@missing, 'ALTER TABLE webhook_deliveries ADD COLUMN traceparent VARCHAR(55) CHARACTER SET ascii COLLATE ascii_bin NULL', 'DO 0');
PREPARE add_column FROM @add;
EXECUTE add_column;
DEALLOCATE PREPARE add_column;
