//! Holds on one hot resource: on loopback, with a distant database, and by a lone client.

use std::time::Duration;

use super::{
    contender::{CONDITIONAL, Contender, HEADER, LANES, PESSIMISTIC, rounds, row},
    database::Database,
};
use crate::{
    Error,
    bench::Bench,
    chart::Chart,
    report::{Section, verdict},
};

pub(crate) async fn hot_resource(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    let mut reached = true;
    let mut ratios = Vec::new();
    for connections in [64, 256, 1024] {
        let mut measured = Vec::new();
        for contender in [LANES, CONDITIONAL, PESSIMISTIC, Contender::Handwritten] {
            let figures = rounds(bench, database, contender, connections, Duration::ZERO).await?;
            bars.push((format!("{}, {connections}", contender.name()), figures.0));
            rows.push(row(contender.name(), connections, figures));
            measured.push(figures);
        }
        let by = |n: usize| measured[0].0 / measured[n].0;
        ratios.push(format!(
            "at {connections} connections {:.1} times `conditional`, {:.1} times `pessimistic`, {:.1} times \
             hand-written",
            by(1),
            by(2),
            by(3)
        ));
        if connections >= 256 {
            reached &= by(1) >= 5.0 && by(2) >= 7.0 && measured[0].0 >= 12_000.0;
        }
        if connections == 256 {
            reached &= measured[0].2 < 60.0;
        }
    }
    Ok(Section {
        title: "MySQL: holds on one hot resource",
        what:
            "POST /api/v1/reserve with distinct keys and keep-alive connections. Database, server and load \
               generator share the cores. Each measurement has a new database."
                .to_owned(),
        header: HEADER.to_vec(),
        rows,
        verdict: format!(
            "`lanes` is {}.\n\n{}",
            ratios.join("; "),
            verdict(
                reached,
                "at 256 connections and above at least 5 times `conditional`, 7 times `pessimistic` and 12,000 \
                 holds/s; p99 at 256 under 60 ms"
            )
        ),
        chart: Some(Chart { title: "Holds per second on one hot resource, by connections", bars }),
    })
}

pub(crate) async fn latency(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    let mut seen = Vec::new();
    for ms in [1_u64, 5] {
        for contender in [LANES, CONDITIONAL, PESSIMISTIC, Contender::Handwritten] {
            let figures = rounds(bench, database, contender, 256, Duration::from_millis(ms)).await?;
            let name = format!("{}, {ms} ms", contender.name());
            rows.push(row(&name, 256, figures));
            bars.push((name, figures.0));
            seen.push(figures.0);
        }
    }
    let ratio = seen[0] / seen[1];
    Ok(Section {
        title: "MySQL: a database that is 1 ms and 5 ms away",
        what: "The same with 256 connections and a proxy that adds this time to each round trip, like a managed \
               database in another zone."
            .to_owned(),
        header: HEADER.to_vec(),
        rows,
        verdict: format!(
            "At 1 ms `lanes` is {ratio:.1} times `conditional`.\n\n{} {}",
            verdict(ratio >= 12.0, "at 1 ms at least 12 times `conditional`"),
            verdict(
                seen[4] >= 4_000.0,
                "at 5 ms at least 4,000 holds/s (where the hand-written transaction falls below 250/s)"
            )
        ),
        chart: Some(Chart { title: "Holds per second on one hot resource, by distance of the database", bars }),
    })
}

pub(crate) async fn lone_client(bench: &Bench, database: &Database) -> Result<Section, Error> {
    let mut rows = Vec::new();
    let mut p50s = Vec::new();
    for contender in [LANES, Contender::Handwritten] {
        for ms in [0, 1] {
            let figures = rounds(bench, database, contender, 1, Duration::from_millis(ms)).await?;
            let distance = if ms == 0 { "loopback" } else { "1 ms away" };
            rows.push(vec![
                contender.name().to_owned(),
                distance.to_owned(),
                format!("{:.2}", figures.1),
                format!("{:.2}", figures.2),
            ]);
            p50s.push(figures.1);
        }
    }
    let (near, far) = (p50s[0] / p50s[2], p50s[1] / p50s[3]);
    Ok(Section {
        title: "MySQL: a lone client",
        what: "One connection, one hold after the other, over HTTP for both implementations.".to_owned(),
        header: vec!["implementation", "database", "p50 ms", "p99 ms"],
        rows,
        verdict: format!(
            "p50 is {near:.2} times that of the hand-written transaction on loopback, and {far:.2} times with a \
             database that is 1 ms away.\n\n{}",
            verdict(near <= 1.5, "p50 on loopback within 1.5 times")
        ),
        chart: None,
    })
}
