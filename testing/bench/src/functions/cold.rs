//! From the start of a process to its first answer, and what it then takes of memory.

use std::{fs, time::Instant};

use bespeak_services::Function;

use super::{TIME, answers, database, define, hold, program};
use crate::{
    Error,
    cases::Bench,
    mysql::Database,
    report::{Section, median, verdict},
};

/// Starts of a round.
const STARTS: usize = 30;
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) async fn cold(bench: &Bench, mysql: &Database) -> Result<Section, Error> {
    let name = database(mysql).await?;
    let url = mysql.url(&name, None)?;
    let settings = [("BESPEAK_DATABASE_URL", url.as_str())];
    let program = program(bench, "reserve");
    define(&Function::start(&program, &settings).await?).await?;
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..STARTS * bench.rounds {
        let started = Instant::now();
        let function = Function::start(&program, &settings).await?;
        answers(&function, hold(), 200).await?;
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
            "From starting the process `reserve` to its answer to a first hold, {} times, one after the other: runtime, \
             connection to MySQL, transaction. Without what Lambda takes to fetch and start an environment. The time for an \
             invocation was {} s.",
            STARTS * bench.rounds,
            TIME.as_secs()
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
