//! The time of a warm invocation of `reserve`, compared with the runtime alone.

use std::time::Instant;

use axum::http::Response;
use bespeak_services::Function;
use lambda_http::{Request, run, service_fn};

use super::invoke::{BARE, TIME_LIMIT, as_error, define, hold, migrated_database, program, request};
use crate::{
    Error,
    bench::Bench,
    mysql::Database,
    report::{Section, median, verdict},
};

/// The number of invocations per round.
const INVOCATIONS: usize = 2_000;

/// Runs the function without any work, which responds at once.
pub(crate) async fn bare() -> Result<(), Error> {
    run(service_fn(async |_: Request| {
        Ok::<_, lambda_http::Error>(Response::new(r#"{"status":"ok"}"#.to_owned()))
    }))
    .await
}

pub(crate) async fn warm(bench: &Bench, mysql: &Database) -> Result<Section, Error> {
    let name = migrated_database(mysql).await?;
    let url = mysql.url(&name, None)?;
    let reserve =
        Function::start(&program(bench, "reserve"), &[("BESPEAK_DATABASE_URL", url.as_str())]).await?;
    let bare = Function::start(&std::env::current_exe()?, &[(BARE, "1")]).await?;
    define(&reserve).await?;
    let live = request("GET", "/health/live", "", "");
    let (mut bares, mut lives, mut holds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..INVOCATIONS * bench.rounds {
        // In turn, so that other load on the machine affects all of them.
        bares.push(took(&bare, live.clone()).await?);
        lives.push(took(&reserve, live.clone()).await?);
        holds.push(took(&reserve, hold()).await?);
    }
    mysql.drop(&name).await?;
    let (bare, live, hold) = (median(bares), median(lives), median(holds));
    let over = live - bare;
    Ok(Section {
        title: "Functions: a warm invocation",
        what: format!(
            "{} invocations each, in turn: a function that responds at once, `reserve` with a request for \
             /health/live, which needs no database, and `reserve` with a hold. The medians include the time of the \
             Runtime API.",
            INVOCATIONS * bench.rounds
        ),
        header: vec!["bare runtime ms", "/health/live ms", "difference ms", "a hold ms"],
        rows: vec![vec![
            format!("{bare:.3}"),
            format!("{live:.3}"),
            format!("{over:.3}"),
            format!("{hold:.3}"),
        ]],
        verdict: verdict(over < 0.3, "less than 0.3 ms more than the bare runtime, without the database"),
        chart: None,
    })
}

/// The time of one invocation in ms.
async fn took(function: &Function, event: Vec<u8>) -> Result<f64, Error> {
    let started = Instant::now();
    function.invoke(event, TIME_LIMIT).await.map_err(as_error)?;
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}
