//! Every query of every panel runs on a real Prometheus that scrapes a real server, because a valid query without a
//! result would be an empty panel.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bespeak_lab::load::Target;
use bespeak_services::Prometheus;
use bespeak_tests::{Books, until_within};
use http::Method;
use hyper::body::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{
    dashboard::{self, Query},
    load::Load,
    path,
};

/// The legends of series that stay at zero while all is well: errors, and effects of a crash, an outage or several
/// days.
const ZERO: [&str; 17] = [
    "5xx",
    "refused from memory, a second",
    "{{pool}} waiting",
    "{{pool}} gave up",
    "keys {{state}}",
    "failed",
    "parked",
    "outages",
    "refused marks",
    "rebalances",
    "seconds overdue",
    "{{cause}}",
    "{{what}}",
    "refused by notice",
    "open breakers",
    "judged alone",
    "{{lock}} lost",
];
/// The titles of such panels that have only one query and no legend.
const ZERO_PANELS: [&str; 5] = ["Server errors", "Parked keys", "Oldest event", "Outbox lag", "Lane queues"];

impl Query {
    fn may_be_zero(&self) -> bool {
        ZERO.contains(&self.legend.as_str()) || ZERO_PANELS.contains(&self.panel.as_str())
    }
}

#[derive(Debug, PartialEq)]
enum Answer {
    /// No series with a number: the panel would show "No data".
    Nothing,
    Zero,
    Something,
}

/// Queries Prometheus as Grafana does.
async fn ask(prometheus: &Prometheus, expression: &str) -> Answer {
    let target = Target::new(&prometheus.url()).expect("a URL");
    let query = utf8_percent_encode(expression, NON_ALPHANUMERIC);
    let path = format!("/api/v1/query?query={query}");
    let mut connection = target.connect().await.expect("connected");
    let answer = connection.send(Method::GET, &path, &[], Bytes::new()).await.expect("answered");
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(answer["status"], "success", "{expression}: {answer}");
    let series = answer["data"]["result"].as_array().expect("a vector");
    let numbers = series.iter().filter_map(|one| one["value"][1].as_str()?.parse::<f64>().ok());
    let numbers: Vec<f64> = numbers.filter(|number| !number.is_nan()).collect();
    if numbers.is_empty() {
        Answer::Nothing
    } else if numbers.iter().all(|number| *number == 0.0) {
        Answer::Zero
    } else {
        Answer::Something
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_has_data() {
    let books = Books::mysql().await;
    let load = Load::start(&books).await;
    let addresses = load.addresses().map(|address| format!("'{address}'")).join(", ");
    let prometheus = Prometheus::start(&format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
        rule_files: [{}]\n\
        scrape_configs:\n  - job_name: bespeak\n    static_configs: [{{targets: [{addresses}]}}]\n",
        path("prometheus/rules.yaml").display()
    ))
    .await
    .unwrap_or_else(|missing| panic!("{missing}"));
    // The load repeats, so that Prometheus sees counters grow.
    let load = Arc::new(load);
    let goes_on = load.clone();
    let work = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            goes_on.once().await;
        }
    });
    // The interval is long enough to contain every part of the load, on a slow machine too.
    let mut empty = dashboard::queries("1m");
    assert!(empty.len() > 40, "{empty:#?}");
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    while !empty.is_empty() {
        assert!(Instant::now() < deadline, "panels that stay empty: {empty:#?}");
        assert!(!work.is_finished(), "the load failed");
        ticks.tick().await;
        for query in std::mem::take(&mut empty) {
            let answer = ask(&prometheus, &query.expression).await;
            if !(answer == Answer::Something || answer == Answer::Zero && query.may_be_zero()) {
                empty.push(query);
            }
        }
    }
    // No urgent alert fires. The load causes dead letters and failed deliveries, which do have alerts.
    let quiet = ask(&prometheus, "ALERTS{severity=\"page\",alertstate=\"firing\"}").await;
    assert_eq!(quiet, Answer::Nothing);
    let fires =
        async || ask(&prometheus, "ALERTS{alertname=\"BespeakDeadLetters\"}").await == Answer::Something;
    until_within(Duration::from_secs(90), "the alert of dead letters fires", fires).await;
    work.abort();
}
