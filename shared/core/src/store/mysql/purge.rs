//! Forgets what is old, in small transactions that lock only what they delete.

use super::{
    StoreError,
    connect::Pool,
    session::{self, rows},
    sql::{Script, Sql},
    wire::{Wire, read},
};
use crate::{
    engine::{Timestamp, Token},
    store::{
        batch::with_retries,
        decode::Cells,
        purge::{self, Purged, UNPUBLISHED_MAX},
    },
};

/// Deletes events that were published before `cutoff`, oldest first, and notes that older ones may be missing.
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
    let answers = read(readers, script).await?;
    let ids = rows(&answers, 0).iter().map(|row| row.integer(0)).collect::<Result<Vec<_>, _>>()?;
    if ids.is_empty() {
        return Ok(Purged::default());
    }
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION"));
    // Somebody may want them published again since.
    let head = || {
        Sql::new("DELETE o FROM outbox o FORCE INDEX (PRIMARY) WHERE o.published_at < ")
            .integer(cutoff.as_microsecond())
            .push(" AND o.id IN ")
    };
    let deletes = script.add_lists(&ids, |sql, id| sql.integer(*id), head, "");
    script.add(kept_since(cutoff).push(" WHERE what = 'outbox'"));
    Ok(Purged { deleted: write(writers, script, &deletes).await?, next: None })
}

/// Deletes what ended before `cutoff`, among the next `limit` reservations.
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
    let answers = read(readers, script).await?;
    let Some(unpublished) = purge::unpublished(rows(&answers, unpublished), cutoff)? else {
        return Ok(Purged::default());
    };
    let page = purge::page(rows(&answers, page), limit, cutoff, &unpublished)?;
    if page.tokens.is_empty() {
        return Ok(Purged { deleted: 0, next: page.next });
    }
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION"));
    let head = || {
        let ended = "DELETE r FROM reservations r FORCE INDEX (PRIMARY)
            WHERE r.status IN ('RELEASED', 'EXPIRED', 'CANCELLED') AND r.updated_at < ";
        Sql::new(ended).integer(cutoff.as_microsecond()).push(" AND r.token IN ")
    };
    script.add_lists(&page.tokens, session::token, head, "");
    script.add(kept_since(cutoff).push(" WHERE what = 'reservations'"));
    write(writers, script, &[]).await?;
    Ok(Purged { deleted: page.tokens.len() as u64, next: page.next })
}

fn kept_since(cutoff: Timestamp) -> Sql {
    Sql::new("UPDATE retention SET kept_since = GREATEST(kept_since, ")
        .integer(cutoff.as_microsecond())
        .push(")")
}

/// Runs a transaction that may be run again; how many rows the statements at these places touched.
pub(super) async fn write(writers: &Pool, mut script: Script, places: &[usize]) -> Result<u64, StoreError> {
    script.add(Sql::new("COMMIT"));
    let answers = with_retries(|_| async {
        let mut wire = Wire::open(writers).await?;
        let answers = wire.ask(script.clone()).await?;
        wire.mark_clean();
        Ok(answers)
    })
    .await?;
    Ok(places.iter().filter_map(|place| answers.get(*place)).map(|answer| answer.affected).sum())
}

/// Forgets which events were applied before `cutoff`.
pub(super) async fn inbox(writers: &Pool, cutoff: Timestamp, limit: u32) -> Result<Purged, StoreError> {
    let mut script = Script::default();
    script.add(Sql::new("START TRANSACTION"));
    let delete = Sql::new("DELETE FROM processed_events WHERE processed_at < ")
        .integer(cutoff.as_microsecond())
        .push(" ORDER BY processed_at LIMIT ")
        .integer(i64::from(limit));
    let delete = script.add(delete);
    Ok(Purged { deleted: write(writers, script, &[delete]).await?, next: None })
}
