//! Every metric that a panel or a rule names exists with its labels, and every metric is documented.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bespeak::{
    app::{Access, open_store},
    background::Expiry,
    dispatch::{Dispatch, Plan},
    telemetry::{self, ExpiryPath},
};
use bespeak_tests::{Api, Books, Client, until};
use serde_json::json;
use tokio::sync::Mutex;

use super::{dashboard, load::Load, path, rules};

/// The content of `/metrics`: the type of each metric, and the values of its labels.
#[derive(Debug, Default)]
struct Shown {
    types: BTreeMap<String, String>,
    explained: BTreeSet<String>,
    labels: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Shown {
    fn parse(text: &str) -> Self {
        let mut shown = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                assert!(help.len() > 10, "{name} is not explained: {help:?}");
                shown.explained.insert(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                shown.types.insert(name.to_owned(), kind.to_owned());
            } else {
                let (name, rest) = line.split_once(['{', ' ']).expect("a value");
                let labels = shown.labels.entry(name.to_owned()).or_default();
                let Some((inside, _)) = rest.split_once('}') else { continue };
                for (label, value) in selectors(inside) {
                    labels.entry(label).or_default().insert(value.1);
                }
            }
        }
        shown
    }
}

/// A label, its operator and its value.
type Selector = (String, (String, String));

/// Parses `a="1",b=~"2"` into names, operators and values. Values with a comma or a quote are not supported.
fn selectors(text: &str) -> Vec<Selector> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let at = part.find(['=', '!']).expect("an operator");
            let (operator, value) = part[at..].split_once('"').expect("a value");
            (part[..at].to_owned(), (operator.to_owned(), value.trim_end_matches('"').to_owned()))
        })
        .collect()
}

/// The metrics of an expression, each with its selectors.
fn named(expression: &str) -> Vec<(String, Vec<Selector>)> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find("bespeak_") {
        rest = &rest[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        rest = &rest[end..];
        let inside =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        found.push((name, selectors(inside)));
    }
    found
}

/// The labels that an expression keeps: `by (a, b)`.
fn kept(expression: &str) -> Vec<&str> {
    let clauses = expression.split("by (").skip(1).filter_map(|rest| rest.split_once(')'));
    clauses.flat_map(|(labels, _)| labels.split(',').map(str::trim)).collect()
}

/// The labels that Prometheus adds.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// The errors of an expression: unknown metrics, labels and values.
fn wrong(shown: &Shown, expression: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut known: BTreeSet<&str> = OF_PROMETHEUS.into();
    for (name, selectors) in named(expression) {
        let Some(labels) = shown.labels.get(&name) else {
            wrong.push(format!("{name} is not shown by /metrics"));
            continue;
        };
        known.extend(labels.keys().map(String::as_str));
        for (label, (operator, value)) in selectors {
            if OF_PROMETHEUS.contains(&label.as_str()) {
                continue;
            }
            match labels.get(&label) {
                None => wrong.push(format!("{name} has no label {label}")),
                Some(values) if operator == "=" && !values.contains(&value) => {
                    wrong.push(format!("{name} never has {label}={value:?}, but {values:?}"));
                }
                Some(_) => {}
            }
        }
    }
    for label in kept(expression).into_iter().filter(|label| !known.contains(label)) {
        wrong.push(format!("nothing has the label {label}, by which it is summed"));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panels_and_rules_use_existing_documented_metrics() {
    // Given a server on which everything happens once
    let books = Books::mysql().await;
    let load = Load::start(&books).await;
    load.once().await;
    until("the lag of the consumer is known", async || {
        load.metrics().await.contains("\nbespeak_consumer_lag_events ")
    })
    .await;
    let text = load.metrics().await;
    let shown = Shown::parse(&text);
    // Then every metric has a help text, and counters end in _total
    let types: BTreeSet<_> = shown.types.keys().cloned().collect();
    assert_eq!(types, shown.explained, "each is explained");
    for (name, kind) in &shown.types {
        assert!(name.starts_with("bespeak_"), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}: {kind}");
    }
    // And every panel and every rule names existing metrics
    let queries = dashboard::queries("1m").into_iter().map(|query| (query.panel, query.expression));
    let rules = rules::rules().into_iter().map(|rule| {
        let text = |name: &str| rule[name].as_str().expect("text").to_owned();
        (text("alert"), text("expr"))
    });
    let wrong: Vec<_> = queries
        .chain(rules)
        .flat_map(|(place, expression)| {
            wrong(&shown, &expression).into_iter().map(move |wrong| format!("{place}: {wrong}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // And the guide documents exactly these metrics
    let guide = std::fs::read_to_string(path("../docs/guides/metrics.md")).expect("the guide");
    let in_guide: BTreeSet<_> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `bespeak_")?.split_once(['`', '{']))
        .map(|(name, _)| format!("bespeak_{name}"))
        .collect();
    assert_eq!(in_guide, types);
}

#[test]
fn unknown_metric_names_and_labels_are_reported() {
    let shown = Shown::parse(
        "# HELP bespeak_a_total What happened.\n# TYPE bespeak_a_total counter\nbespeak_a_total{kind=\"x\"} 1\n",
    );
    assert!(
        wrong(&shown, r#"sum by (kind) (rate(bespeak_a_total{instance=~".*",kind="x"}[1m]))"#).is_empty()
    );
    for expression in [
        "bespeak_b_total",
        r#"bespeak_a_total{kind="y"}"#,
        r#"bespeak_a_total{sort=~"x"}"#,
        "sum by (sort) (bespeak_a_total)",
    ] {
        assert_eq!(wrong(&shown, expression).len(), 1, "{expression}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expiry_is_counted_under_its_path() {
    let metrics = telemetry::metrics().expect("metrics");
    let swept = || {
        let text = metrics.render();
        let line = text.lines().find(|line| line.starts_with(r#"bespeak_expiries_total{path="sweep"}"#));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).expect("a number, from the start")
    };
    let before = swept();
    let api = Api::start(Books::sqlite()).await;
    api.stock("seat", 1).await;
    let hold = json!({"resourceId": "seat", "quantity": 1, "ttlSeconds": 1});
    assert_eq!(api.reserve("k", &hold).await.status, 200);
    let store = open_store(&api.config, Access::Maintain).await.expect("the same books");
    let dispatch = Arc::new(Dispatch::start(store.clone(), Plan::Unbatched { at_once: 1 }, 10));
    let sweep = Mutex::new(Expiry::new(store, dispatch).counted_as(ExpiryPath::Sweep));
    until("the hold is swept", async || sweep.lock().await.step().await.expect("a step").expired == 1).await;
    assert_eq!(swept(), before + 1);
}
