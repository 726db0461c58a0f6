//! The time from the start of a process to its first response, and its memory then.

use std::{fs, time::Instant};

use bespeak_services::Function;

use super::invoke::{TIME_LIMIT, define, expect_status, hold, migrated_database, program};
use crate::{
    Error,
    bench::Bench,
    mysql::Database,
    report::{Section, median, verdict},
};

/// The number of starts per round.
const STARTS: usize = 30;
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) async fn cold(bench: &Bench, mysql: &Database) -> Result<Section, Error> {
    let name = migrated_database(mysql).await?;
    let url = mysql.url(&name, None)?;
    let settings = [("BESPEAK_DATABASE_URL", url.as_str())];
    let program = program(bench, "reserve");
    define(&Function::start(&program, &settings).await?).await?;
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..STARTS * bench.rounds {
        let started = Instant::now();
        let function = Function::start(&program, &settings).await?;
        expect_status(&function, hold(), 200).await?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
        // Far below 2^52 bytes.
        #[expect(clippy::cast_precision_loss)]
        sizes.push(function.resident_bytes() as f64 / MIB);
    }
    mysql.drop(&name).await?;
    let (p50, resident) = (median(times.clone()), median(sizes));
    times.sort_by(f64::total_cmp);
    let p95 = times.get(times.len() * 95 / 100).copied().unwrap_or(f64::NAN);
    #[expect(clippy::cast_precision_loss)]
    let file = fs::metadata(&program)?.len() as f64 / MIB;
    Ok(Section {
        title: "Functions: cold start",
        what: format!(
            "From the start of the process `reserve` to its response to a first hold, {} times, one after the \
             other. This includes the runtime, the connection to MySQL and the transaction, but not the time that \
             Lambda needs to fetch and start an environment. The time limit of an invocation was {} s.",
            STARTS * bench.rounds,
            TIME_LIMIT.as_secs()
        ),
        header: vec!["p50 ms", "p95 ms", "resident MiB", "program MiB"],
        rows: vec![vec![
            format!("{p50:.1}"),
            format!("{p95:.1}"),
            format!("{resident:.1}"),
            format!("{file:.1}"),
        ]],
        verdict: verdict(p50 < 40.0 && resident < 30.0, "p50 below 40 ms, resident memory below 30 MB"),
        chart: None,
    })
}
