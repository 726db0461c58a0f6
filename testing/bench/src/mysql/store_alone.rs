//! Batches of holds, straight to the store.

use std::{sync::Arc, time::Instant};

use bespeak::{
    engine::{Command, ResourceId},
    store::{
        CommitMode, Guard, Store,
        mysql::{MysqlOptions, MysqlStore},
    },
};
use bespeak_lab::load::thousands;

use super::database::Database;
use crate::{
    Error,
    bench::Bench,
    client::{define_directly, random_hold},
    report::{Section, median, verdict},
};

pub(crate) async fn store_alone(bench: &Bench, database: &Database) -> Result<Section, Error> {
    const BATCH: usize = 100;
    let mut rows = Vec::new();
    let mut best = 0.0_f64;
    for (guard, name, callers) in [
        (Guard::RowLock, "row lock", 8),
        (Guard::RowLock, "row lock", 1),
        (Guard::Conditional, "conditional update", 8),
    ] {
        let mut rates = Vec::new();
        for _ in 0..bench.rounds {
            rates.push(callers_of_store(bench, database, guard, callers, BATCH).await?);
        }
        let rate = median(rates);
        best = best.max(rate);
        rows.push(vec![name.to_owned(), callers.to_string(), thousands(rate)]);
    }
    Ok(Section {
        title: "MySQL: the store alone",
        what: format!(
            "Batches of {BATCH} holds on one hot resource, without HTTP. Each caller has its own connection."
        ),
        header: vec!["guard", "callers", "reservations/s"],
        rows,
        verdict: format!(
            "For comparison: TigerBeetle on the same kind of machine executes 63,973 transfers/s with 100 per \
             request and 8 clients.\n\n{}",
            verdict(best >= 40_000.0, "(an aim) 40,000 reservations/s")
        ),
        chart: None,
    })
}

/// Reservations per second of concurrent callers, each of which executes one batch after the other.
async fn callers_of_store(
    bench: &Bench,
    database: &Database,
    guard: Guard,
    callers: usize,
    batch: usize,
) -> Result<f64, Error> {
    let books = database.fresh().await?;
    let options = MysqlOptions { guard, ..MysqlOptions::default() };
    let store = Arc::new(MysqlStore::new(&database.url(&books, None)?, options)?);
    store.migrate().await?;
    let hot = ResourceId::new("id", "hot")?;
    define_directly(&*store, std::slice::from_ref(&hot)).await?;
    let started = Instant::now();
    let (from, until) = (started + bench.warm_up, started + bench.warm_up + bench.duration);
    let mut tasks = Vec::new();
    for _ in 0..callers {
        let (store, hot) = (store.clone(), hot.clone());
        tasks.push(tokio::spawn(async move {
            let mut held = 0_u32;
            while Instant::now() < until {
                let counted = Instant::now() >= from;
                let holds =
                    (0..batch)
                        .map(|_| Ok(Command::Reserve(random_hold(&hot)?)))
                        .collect::<Result<Vec<_>, Error>>()?;
                let executed = store.execute(&holds, CommitMode::Commit).await?;
                if !executed.outcomes.iter().all(Result::is_ok) {
                    return Err::<_, Error>("a hold was refused".into());
                }
                held += if counted { u32::try_from(batch)? } else { 0 };
            }
            Ok(held)
        }));
    }
    let mut held = 0;
    for task in tasks {
        held += task.await??;
    }
    let rate = f64::from(held) / from.elapsed().as_secs_f64();
    store.close().await;
    database.drop(&books).await?;
    Ok(rate)
}
