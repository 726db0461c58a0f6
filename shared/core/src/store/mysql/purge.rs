//! Purges old records, in small transactions that lock only the rows that they delete.

use super::{
    StoreError,
    connect::Pool,
    round_trip::{commit_with_retries, read, rows},
    sql::{Script, Sql},
    statements::{self},
};
use crate::{
    engine::{Timestamp, Token},
    store::{
        decode::Columns,
        purge::{self, Purged, UNPUBLISHED_MAX},
    },
};

/// Deletes events that were published before `cutoff`, oldest first, and records that older ones may be missing.
pub(super) async fn events(
    (writers, readers): (&Pool, &Pool),
    cutoff: Timestamp,
    limit: u32,
) -> Result<Purged, StoreError> {
    let mut script = Script::default();
    script.add(
        Sql::new("SELECT id FROM outbox FORCE INDEX (outbox_unpublished) WHERE published_at < ")
            .integer(cutoff.as_microsecond())
            .push(" ORDER BY published_at LIMIT ")
            .integer(i64::from(limit)),
    );
    let results = read(readers, script).await?;
    let ids = rows(&results, 0).iter().map(|row| row.integer(0)).collect::<Result<Vec<_>, _>>()?;
    if ids.is_empty() {
        return Ok(Purged::default());
    }
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    // An operator may have marked them for republication meanwhile.
    let head = || {
        Sql::new("DELETE o FROM outbox o FORCE INDEX (PRIMARY) WHERE o.published_at < ")
            .integer(cutoff.as_microsecond())
            .push(" AND o.id IN ")
    };
    let deletes = script.add_lists(&ids, |sql, id| sql.integer(*id), head, "");
    script.add(kept_since(cutoff).push(" WHERE what = 'outbox'"));
    // Their events were published, or counted as such, no later than that.
    let forget = Sql::new("DELETE FROM outbox_skipped WHERE skipped_at < ").integer(cutoff.as_microsecond());
    script.add(forget.push(" ORDER BY skipped_at LIMIT ").integer(i64::from(limit)));
    Ok(Purged { deleted: commit_with_retries(writers, script, &deletes).await?, ..Purged::default() })
}

/// Deletes reservations that ended before `cutoff`, among the next `limit`.
pub(super) async fn reservations(
    (writers, readers): (&Pool, &Pool),
    cutoff: Timestamp,
    after: Option<Token>,
    limit: u32,
) -> Result<Purged, StoreError> {
    let mut script = Script::default();
    let unpublished = script.add(
        Sql::new(
            "SELECT event_key, created_at FROM outbox FORCE INDEX (outbox_unpublished)
            WHERE published_at IS NULL ORDER BY id LIMIT ",
        )
        .integer(i64::from(UNPUBLISHED_MAX)),
    );
    let page = script.add(
        Sql::new(
            "SELECT token, status, created_at, updated_at FROM reservations FORCE INDEX (PRIMARY)
            WHERE item_no = 0 AND token > ",
        )
        .bytes(after.map(|token| *token.uuid().as_bytes()).unwrap_or_default().as_slice())
        .push(" ORDER BY token LIMIT ")
        .integer(i64::from(limit)),
    );
    let results = read(readers, script).await?;
    let Some(unpublished) = purge::unpublished(rows(&results, unpublished), cutoff)? else {
        return Ok(Purged::default());
    };
    let page = purge::page(rows(&results, page), limit, cutoff, &unpublished)?;
    if page.tokens.is_empty() {
        return Ok(page.purged());
    }
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let head = || {
        let ended = "DELETE r FROM reservations r FORCE INDEX (PRIMARY)
            WHERE r.status IN ('RELEASED', 'EXPIRED', 'CANCELLED') AND r.updated_at < ";
        Sql::new(ended).integer(cutoff.as_microsecond()).push(" AND r.token IN ")
    };
    script.add_lists(&page.tokens, statements::token, head, "");
    script.add(kept_since(cutoff).push(" WHERE what = 'reservations'"));
    commit_with_retries(writers, script, &[]).await?;
    Ok(page.purged())
}

fn kept_since(cutoff: Timestamp) -> Sql {
    Sql::new("UPDATE retention SET kept_since = GREATEST(kept_since, ")
        .integer(cutoff.as_microsecond())
        .push(")")
}

/// Deletes the records of events that were applied before `cutoff`.
pub(super) async fn inbox(writers: &Pool, cutoff: Timestamp, limit: u32) -> Result<Purged, StoreError> {
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION READ WRITE"));
    let delete = Sql::new("DELETE FROM processed_events WHERE processed_at < ")
        .integer(cutoff.as_microsecond())
        .push(" ORDER BY processed_at LIMIT ")
        .integer(i64::from(limit));
    let delete = script.add(delete);
    Ok(Purged { deleted: commit_with_retries(writers, script, &[delete]).await?, ..Purged::default() })
}
