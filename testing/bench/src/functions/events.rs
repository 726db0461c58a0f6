//! The rates at which `relay-cron` publishes events and `consumer` applies them.

use std::time::Instant;

use base64::{Engine, engine::general_purpose::STANDARD};
use bespeak::envelope::{Record, record};
use bespeak_lab::load::thousands;
use bespeak_services::Function;
use serde_json::{Value, json};

use super::invoke::{TIME_LIMIT, as_error, migrated_database, program};
use crate::{
    Error,
    bench::Bench,
    events::{Backlog, Broker, SOURCE, url},
    mysql::Database,
    report::{Section, median, verdict},
};

/// The number of unpublished events.
const BACKLOG: u64 = 200_000;
/// The number of records in a batch.
const BATCH: usize = 500;
/// The number of batches in a round.
const BATCHES: usize = 100;

pub(crate) async fn relay(bench: &Bench, mysql: &Database, backlog: &Backlog) -> Result<Section, Error> {
    let broker = Broker::start(bench).await?;
    let mut rates = Vec::new();
    for _ in 0..bench.rounds {
        let name = migrated_database(mysql).await?;
        backlog.copy(mysql, &name, BACKLOG).await?;
        mysql.wait_for_flush().await?;
        let topic = url(&broker.topic()?);
        let settings = [("BESPEAK_DATABASE_URL", mysql.url(&name, None)?), ("BESPEAK_EVENTS_URL", topic)];
        let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        let cron = Function::start(&program(bench, "relay-cron"), &settings).await?;
        let started = Instant::now();
        let answer = cron.invoke(r#"{"task":"relay"}"#, TIME_LIMIT).await.map_err(as_error)?;
        let took = started.elapsed().as_secs_f64();
        let summary: Value = serde_json::from_slice(&answer)?;
        if summary["relayed"]["published"] != BACKLOG || summary["unpublished"] != 0 {
            return Err(format!("not all events were published: {summary}").into());
        }
        // Far below 2^52 events.
        #[expect(clippy::cast_precision_loss)]
        rates.push(BACKLOG as f64 / took);
        mysql.drop(&name).await?;
    }
    let rate = median(rates);
    Ok(Section {
        title: "Functions: relay-cron publishes",
        what: format!(
            "One invocation with `{{\"task\":\"relay\"}}`, from a cold start to its response, with {} unpublished \
             events. The invocation also creates the topic.",
            thousands(200_000.0)
        ),
        header: vec!["events/s"],
        rows: vec![vec![thousands(rate)]],
        verdict: verdict(rate >= 15_000.0, "at least 15,000 events/s within one invocation"),
        chart: None,
    })
}

pub(crate) async fn consume(bench: &Bench, mysql: &Database, backlog: &Backlog) -> Result<Section, Error> {
    let mut rates = Vec::new();
    let records: Vec<_> = backlog.commits(mysql).await?.iter().map(|event| record(event, SOURCE)).collect();
    let batches: Vec<_> = records.chunks(BATCH).take(BATCHES).map(|batch| event(batch).to_string()).collect();
    drop(records);
    for _ in 0..bench.rounds {
        let name = migrated_database(mysql).await?;
        backlog.copy_resources(mysql, &name).await?;
        mysql.wait_for_flush().await?;
        let url = mysql.url(&name, None)?;
        let consumer =
            Function::start(&program(bench, "consumer"), &[("BESPEAK_DATABASE_URL", &url)]).await?;
        // An empty first batch, because the cold start is not part of this measurement.
        consumer.invoke(event(&[]).to_string(), TIME_LIMIT).await.map_err(as_error)?;
        let started = Instant::now();
        for batch in &batches {
            let answer = consumer.invoke(batch.clone(), TIME_LIMIT).await.map_err(as_error)?;
            if serde_json::from_slice::<Value>(&answer)? != json!({"batchItemFailures": []}) {
                return Err(format!("{:?}", String::from_utf8_lossy(&answer)).into());
            }
        }
        let took = started.elapsed().as_secs_f64();
        let keys = mysql.status(&format!("SELECT CAST(COUNT(*) AS CHAR) FROM {name}.smart_keys")).await?;
        if keys != (BATCH * BATCHES).to_string() {
            return Err(format!("{} events, {keys} SmartKeys", BATCH * BATCHES).into());
        }
        // Far below 2^52 events.
        #[expect(clippy::cast_precision_loss)]
        rates.push((BATCH * BATCHES) as f64 / took);
        mysql.drop(&name).await?;
    }
    let rate = median(rates);
    Ok(Section {
        title: "Functions: consumer applies",
        what: format!(
            "{BATCHES} invocations, one after the other, each with {BATCH} events of commits of resources with the \
             fulfilment SMART_KEY, as a Kafka event source sends them. After each round the database has one \
             SmartKey for each event."
        ),
        header: vec!["events/s"],
        rows: vec![vec![thousands(rate)]],
        verdict: verdict(rate >= 8_000.0, "at least 8,000 events/s in batches of 500"),
        chart: None,
    })
}

/// The event of a batch from a self-managed Kafka cluster.
fn event(records: &[Record]) -> Value {
    let records: Vec<_> = records
        .iter()
        .enumerate()
        .map(|(offset, record)| {
            let encoded = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
            let headers: Vec<_> = record.headers.iter().map(|(name, value)| json!({name: value})).collect();
            json!({"topic": "bench", "partition": 0, "offset": offset, "timestamp": 1_795_341_605_000_u64,
                "timestampType": "CREATE_TIME", "key": encoded(&record.key), "value": encoded(&record.value),
                "headers": headers})
        })
        .collect();
    json!({"eventSource": "SelfManagedKafka", "bootstrapServers": "kafka:9092", "records": {"bench-0": records}})
}
