//! Refusals of a resource that is sold out.

use bespeak_lab::load::thousands;

use super::{contender::LANES, database::Database};
use crate::{
    Error,
    bench::Bench,
    client::{define, hold, hold_request, load, only},
    report::{Section, median, verdict},
};

pub(crate) async fn sold_out(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let (mut rates, mut p99s, mut per) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let books = database.fresh().await?;
        let server = LANES.start(bench, &database.url(&books, None)?).await?;
        let target = server.target()?;
        define(&target, "hot", 1).await?;
        if hold(target.connect().await?, "hot", "the-winner").await.1?.status != 200 {
            return Err("the only unit could not be held".into());
        }
        let before = database.questions().await?;
        let summary = load(bench, &target, 256, hold_request("hot".into())).await?;
        only(&summary, "409")?;
        let questions = database.questions().await? - before;
        // The statements include those of the warm-up, so the refusals of the warm-up are estimated and
        // included as well.
        let refusals = summary.requests_per_second * (bench.warm_up + bench.duration).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "counts of some seconds")]
        per.push(refusals / questions as f64);
        rates.push(summary.requests_per_second);
        p99s.push(summary.p99_ms);
        drop(server);
        database.drop(&books).await?;
    }
    let (rate, per) = (median(rates), median(per));
    Ok(Section {
        title: "MySQL: sold-out refusals",
        what: "The only unit is held; 256 connections request it with distinct keys. Statements are counted by the \
               database (`Questions`)."
            .to_owned(),
        header: vec!["refusals/s", "p99 ms", "refusals per statement"],
        rows: vec![vec![thousands(rate), format!("{:.1}", median(p99s)), format!("{per:.0}")]],
        verdict: verdict(rate >= 30_000.0 && per > 20.0, "at least 30,000/s, and less than 1 statement per 20 \
                                                          refusals"),
        chart: None,
    })
}
