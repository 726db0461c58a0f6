//! The contenders on MySQL, and how each is measured on one hot resource.

use std::time::Duration;

use bespeak_lab::load::{Summary, thousands};
use bespeak_services::Proxy;
use tempfile::TempDir;

use super::database::Database;
use crate::{
    Error,
    bench::Bench,
    client::{define, hold_request, load, only},
    report::median,
    server::Server,
};

pub(super) const LANES: Contender = Contender::Strategy("lanes");
pub(super) const CONDITIONAL: Contender = Contender::Strategy("conditional");
pub(super) const PESSIMISTIC: Contender = Contender::Strategy("pessimistic");

/// Medians over all rounds: requests/s, p50 and p99 in ms.
pub(super) type Figures = (f64, f64, f64);

/// Measures a contender in each round with [`hot`].
pub(super) async fn rounds(
    bench: &Bench,
    database: &Database,
    contender: Contender,
    connections: usize,
    latency: Duration,
) -> Result<Figures, Error> {
    let (mut rates, mut p50s, mut p99s) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let summary = hot(bench, database, contender, connections, latency).await?;
        rates.push(summary.requests_per_second);
        p50s.push(summary.p50_ms);
        p99s.push(summary.p99_ms);
    }
    Ok((median(rates), median(p50s), median(p99s)))
}

/// A row of a report, with the columns of [`HEADER`].
pub(super) fn row(what: &str, connections: usize, (rate, p50, p99): Figures) -> Vec<String> {
    vec![what.to_owned(), connections.to_string(), thousands(rate), format!("{p50:.1}"), format!("{p99:.1}")]
}

/// The columns of [`row`].
pub(super) const HEADER: [&str; 5] = ["implementation", "connections", "holds/s", "p50 ms", "p99 ms"];

/// An implementation of holds: a strategy of Bespeak, or the hand-written transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    Strategy(&'static str),
    Handwritten,
}

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Strategy(name) => name,
            Self::Handwritten => "hand-written conditional transaction",
        }
    }

    pub(super) async fn start(self, bench: &Bench, url: &str) -> Result<Server, Error> {
        match self {
            Self::Strategy(strategy) => {
                let settings = [("BESPEAK_STRATEGY", strategy), ("BESPEAK_DATABASE_URL", url)];
                Server::bespeak(&bench.binary, TempDir::new()?, &settings).await
            }
            Self::Handwritten => Server::handwritten(url).await,
        }
    }
}

/// Measures holds on one hot resource in an empty database whose round trips take `latency` longer. Every
/// response must be 200.
pub(super) async fn hot(
    bench: &Bench,
    database: &Database,
    contender: Contender,
    connections: usize,
    latency: Duration,
) -> Result<Summary, Error> {
    let name = database.fresh().await?;
    let proxy = if latency.is_zero() { None } else { Some(database.proxy()?) };
    if let Some(proxy) = &proxy {
        proxy.set_latency(latency);
    }
    let url = database.url(&name, proxy.as_ref().map(Proxy::address))?;
    let server = contender.start(bench, &url).await?;
    let target = server.target()?;
    if contender != Contender::Handwritten {
        define(&target, "hot", 9_000_000_000).await?;
    }
    let summary = load(bench, &target, connections, hold_request("hot".into())).await?;
    only(&summary, "200")?;
    drop(server);
    database.drop(&name).await?;
    Ok(summary)
}
