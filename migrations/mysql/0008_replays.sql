-- When an event was first published, if an operator had it published again: published_at is set to it, so that events
-- of one key are still deleted in their order.
-- Only MariaDB has ADD COLUMN IF NOT EXISTS, so that a migration that was cut off can be run again is spelt out. A column
-- at the end of a row is added without a look at the rows that are there.
SET @missing = (SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'outbox' AND column_name = 'first_published_at');
SET @add = IF(@missing, 'ALTER TABLE outbox ADD COLUMN first_published_at BIGINT NULL', 'DO 0');
PREPARE add_column FROM @add;
EXECUTE add_column;
DEALLOCATE PREPARE add_column;

-- What is purged.
SET @missing = (SELECT COUNT(*) = 0 FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'outbox_skipped' AND index_name = 'outbox_skipped_at');
SET @add = IF(@missing, 'ALTER TABLE outbox_skipped ADD INDEX outbox_skipped_at (skipped_at)', 'DO 0');
PREPARE add_index FROM @add;
EXECUTE add_index;
DEALLOCATE PREPARE add_index;

-- Whether an event is the first unpublished one of its key.
SET @missing = (SELECT COUNT(*) = 0 FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'outbox' AND index_name = 'outbox_key');
SET @add = IF(@missing, 'ALTER TABLE outbox ADD INDEX outbox_key (event_key, published_at)', 'DO 0');
PREPARE add_index FROM @add;
EXECUTE add_index;
DEALLOCATE PREPARE add_index;
