//! The effect of a working relay on reservations.

use std::time::Duration;

use bespeak_lab::load::{OpenLoop, Summary, open_loop, thousands};
use tempfile::TempDir;

use super::{
    broker::{Broker, url},
    tables::count,
};
use crate::{
    Error,
    bench::Bench,
    chart::Chart,
    client::{define, hold_request, load, only},
    mysql::Database,
    report::{Section, count_of, median, verdict},
    server::Server,
};

/// The rate of the open loop.
const HOLDS_PER_SECOND: u32 = 5_000;
const CONNECTIONS: usize = 256;

/// The arrival of holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crowd {
    /// At a fixed rate.
    Open,
    /// Each connection sends the next hold after the response to the last one.
    Closed,
}

/// The figures of all rounds, without a relay or with one.
#[derive(Default)]
struct Rounds {
    rates: Vec<f64>,
    p50s: Vec<f64>,
    p99s: Vec<f64>,
    unpublished: Vec<f64>,
}

pub(crate) async fn cost(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let broker = Broker::start(bench).await?;
    let fixed = alternating(bench, database, &broker, Crowd::Open).await?;
    let saturated = alternating(bench, database, &broker, Crowd::Closed).await?;
    let mut rows = Vec::new();
    let at_rate = format!("{} holds/s, open loop", thousands(f64::from(HOLDS_PER_SECOND)));
    for (crowd, rounds) in [(at_rate.as_str(), &fixed), ("saturation, closed loop", &saturated)] {
        for (relay, rounds) in ["off", "on"].iter().zip(rounds) {
            rows.push(row(crowd, relay, rounds));
        }
    }
    let of = |[off, on]: &[Rounds; 2], figure: fn(&Rounds) -> &Vec<f64>| {
        median(figure(on).iter().zip(figure(off)).map(|(on, off)| on / off).collect())
    };
    let p50 = of(&fixed, |rounds| &rounds.p50s);
    let p99 = of(&fixed, |rounds| &rounds.p99s);
    let rate = of(&fixed, |rounds| &rounds.rates);
    let most = of(&saturated, |rounds| &rounds.rates);
    Ok(Section {
        title: "Events: the cost of the relay for reservations",
        what: format!(
            "POST /api/v1/reserve on one hot resource, {CONNECTIONS} connections, BESPEAK_RELAY off and on in \
             alternation, BESPEAK_CONSUMER=off, a new database and topic each time. Server, relay, database, \
             broker and load generator share {} cores. With the relay on, the broker and the database's work for \
             the relay also run on these cores, which would not be so on separate machines. Response times of the \
             open loop are counted from the scheduled time of a request. Unpublished events are counted when the \
             last hold has been answered.",
            std::thread::available_parallelism()?
        ),
        header: vec!["holds", "relay", "holds/s", "p50 ms", "p99 ms", "unpublished events at the end"],
        rows,
        verdict: format!(
            "Ratios with and without the relay, pair by pair: at the fixed rate p50 {p50:.2}, p99 {p99:.2}, \
             achieved rate {rate:.2}; at saturation {most:.2} of the holds/s.\n\n{}",
            verdict(
                p50 < 1.2 && rate > 0.8,
                "at the fixed rate a cost under 20 % (p50 under 1.2 times, achieved rate over 0.8 times that \
                 without the relay)"
            )
        ),
        chart: Some(Chart {
            title: "Holds per second at saturation",
            bars: vec![
                ("relay on".to_owned(), median(saturated[1].rates.clone())),
                ("without a relay".to_owned(), median(saturated[0].rates.clone())),
            ],
        }),
    })
}

fn row(crowd: &str, relay: &str, rounds: &Rounds) -> Vec<String> {
    let ms = |figures: &[f64]| format!("{:.1}", median(figures.to_vec()));
    vec![
        crowd.to_owned(),
        relay.to_owned(),
        thousands(median(rounds.rates.clone())),
        ms(&rounds.p50s),
        ms(&rounds.p99s),
        if relay == "on" { thousands(median(rounds.unpublished.clone())) } else { "all".to_owned() },
    ]
}

/// Measures without a relay and with one in turn. Each goes first in every second round.
async fn alternating(
    bench: &Bench,
    database: &Database,
    broker: &Broker,
    crowd: Crowd,
) -> Result<[Rounds; 2], Error> {
    let mut rounds = [Rounds::default(), Rounds::default()];
    for number in 0..bench.rounds {
        for on in [number % 2 == 1, number % 2 == 0] {
            let (summary, unpublished) = measured(bench, database, broker, crowd, on).await?;
            let of = &mut rounds[usize::from(on)];
            of.rates.push(summary.requests_per_second);
            of.p50s.push(summary.p50_ms);
            of.p99s.push(summary.p99_ms);
            of.unpublished.push(unpublished);
        }
    }
    Ok(rounds)
}

/// Measures one crowd, and returns its summary and the number of unpublished events at the end.
async fn measured(
    bench: &Bench,
    database: &Database,
    broker: &Broker,
    crowd: Crowd,
    relay: bool,
) -> Result<(Summary, f64), Error> {
    let name = database.fresh().await?;
    let (books, log) = (database.url(&name, None)?, url(&broker.topic()?));
    let settings = [
        ("BESPEAK_DATABASE_URL", books.as_str()),
        ("BESPEAK_EVENTS_URL", &log),
        ("BESPEAK_RELAY", if relay { "on" } else { "off" }),
        ("BESPEAK_CONSUMER", "off"),
    ];
    let server = Server::bespeak(&bench.binary, TempDir::new()?, &settings).await?;
    let target = server.target()?;
    define(&target, "hot", 9_000_000_000).await?;
    let summary = match crowd {
        Crowd::Closed => load(bench, &target, CONNECTIONS, hold_request("hot".into())).await?,
        Crowd::Open => {
            let load = OpenLoop {
                per_second: HOLDS_PER_SECOND,
                connections: CONNECTIONS,
                warm_up: bench.warm_up,
                duration: bench.duration,
                late_max: Duration::from_secs(60),
            };
            open_loop(&target, &load, hold_request("hot".into())).await?.summary()
        }
    };
    let unpublished = count(database, &format!("{name}.outbox WHERE published_at IS NULL")).await?;
    only(&summary, "200")?;
    drop(server);
    database.drop(&name).await?;
    Ok((summary, count_of(unpublished)))
}
