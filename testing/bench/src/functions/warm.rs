//! What an invocation of `reserve` costs over the runtime alone.

use std::time::Instant;

use axum::http::Response;
use bespeak_services::Function;
use lambda_http::{Request, run, service_fn};

use super::{BARE, TIME, database, hold, program, request, told};
use crate::{
    Error,
    cases::Bench,
    mysql::Database,
    report::{Section, median, verdict},
};

/// Invocations of a round.
const INVOCATIONS: usize = 2_000;

/// The function that does nothing but answer.
pub(crate) async fn bare() -> Result<(), Error> {
    run(service_fn(async |_: Request| {
        Ok::<_, lambda_http::Error>(Response::new(r#"{"status":"ok"}"#.to_owned()))
    }))
    .await
}

pub(crate) async fn warm(bench: &Bench, mysql: &Database) -> Result<Section, Error> {
    let name = database(mysql).await?;
    let url = mysql.url(&name, None)?;
    let reserve =
        Function::start(&program(bench, "reserve"), &[("BESPEAK_DATABASE_URL", url.as_str())]).await?;
    let bare = Function::start(&std::env::current_exe()?, &[(BARE, "1")]).await?;
    super::define(&reserve).await?;
    let live = request("GET", "/health/live", "", "");
    let (mut bares, mut lives, mut holds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..INVOCATIONS * bench.rounds {
        // In turn, so that whatever else the machine does meets all of them.
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
            "{} invocations each, in turn: a function that answers at once, `reserve` asked for /health/live, which needs no \
             database, and `reserve` asked for a hold. Medians, with the Runtime API's share.",
            INVOCATIONS * bench.rounds
        ),
        header: vec!["bare runtime ms", "/health/live ms", "over it ms", "a hold ms"],
        rows: vec![vec![
            format!("{bare:.3}"),
            format!("{live:.3}"),
            format!("{over:.3}"),
            format!("{hold:.3}"),
        ]],
        verdict: verdict(over < 0.3, "less than 0.3 ms over the bare runtime, besides the database"),
        chart: None,
    })
}

async fn took(function: &Function, event: Vec<u8>) -> Result<f64, Error> {
    let started = Instant::now();
    function.invoke(event, TIME).await.map_err(told)?;
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}
