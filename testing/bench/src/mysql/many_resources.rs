//! Holds on a thousand resources.

use std::sync::Arc;

use bespeak_lab::load::thousands;

use super::{contender::LANES, database::Database};
use crate::{
    Error,
    bench::Bench,
    chart::Chart,
    client::{define, hold, load, only, random_key},
    report::{Section, median, verdict},
};

pub(crate) async fn many_resources(bench: &Bench, database: &Database) -> Result<Section, Error> {
    const RESOURCES: usize = 1_000;
    let mut rows = Vec::new();
    let mut least = f64::MAX;
    let mut bars = Vec::new();
    for (name, exponent) in [("uniform", 0.0), ("Zipf 1.0", 1.0)] {
        let cumulative = Arc::new(cumulative(RESOURCES, exponent));
        let (mut rates, mut p99s) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds {
            let books = database.fresh().await?;
            let server = LANES.start(bench, &database.url(&books, None)?).await?;
            let target = server.target()?;
            for n in 0..RESOURCES {
                define(&target, &format!("r{n}"), 9_000_000_000).await?;
            }
            let cumulative = cumulative.clone();
            let summary = load(bench, &target, 256, move |connection, _, _| {
                let drawn = fastrand::f64();
                let resource =
                    format!("r{}", cumulative.partition_point(|part| *part < drawn).min(RESOURCES - 1));
                async move { hold(connection, &resource, &random_key()).await }
            })
            .await?;
            only(&summary, "200")?;
            rates.push(summary.requests_per_second);
            p99s.push(summary.p99_ms);
            drop(server);
            database.drop(&books).await?;
        }
        let rate = median(rates);
        least = least.min(rate);
        bars.push((format!("lanes, {name}"), rate));
        rows.push(vec![name.to_owned(), thousands(rate), format!("{:.1}", median(p99s))]);
    }
    Ok(Section {
        title: "MySQL: holds on 1,000 resources",
        what: "256 connections; each hold is on a randomly drawn resource; the strategy is `lanes` with 8 \
               lanes."
            .to_owned(),
        header: vec!["distribution", "holds/s", "p99 ms"],
        rows,
        verdict: verdict(least >= 10_000.0, "at least 10,000 holds/s with either distribution"),
        chart: Some(Chart { title: "Holds per second on 1,000 resources", bars }),
    })
}

/// The cumulative distribution of ranks whose probability is proportional to 1 / rank^exponent.
#[expect(clippy::cast_precision_loss, reason = "ranks up to a thousand")]
fn cumulative(ranks: usize, exponent: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=ranks).map(|rank| (rank as f64).powf(-exponent)).collect();
    let all: f64 = weights.iter().sum();
    weights
        .iter()
        .scan(0.0, |sum, weight| {
            *sum += weight / all;
            Some(*sum)
        })
        .collect()
}
