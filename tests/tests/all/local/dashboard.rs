//! The dashboard as Grafana reads it: its panels and their queries.

use std::collections::BTreeSet;

use serde_json::Value;

use super::text;

/// A query of a panel.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) panel: String,
    pub(super) legend: String,
    /// The PromQL expression with Grafana's variables replaced.
    pub(super) expression: String,
}

fn dashboard() -> Value {
    serde_json::from_str(&text("grafana/dashboards/bespeak.json")).expect("JSON")
}

fn panels() -> Vec<Value> {
    dashboard()["panels"].as_array().expect("panels").clone()
}

/// The queries of all panels, with `span` as the interval of rates.
pub(super) fn queries(span: &str) -> Vec<Query> {
    let mut queries = Vec::new();
    for panel in panels() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            let expression = expression.replace("$__rate_interval", span).replace("$instance", ".*");
            assert!(!expression.contains('$'), "an unknown variable: {expression}");
            queries.push(Query {
                panel: panel["title"].as_str().expect("a title").to_owned(),
                legend: target["legendFormat"].as_str().expect("a legend").to_owned(),
                expression,
            });
        }
    }
    queries
}

#[test]
fn panels_do_not_overlap_and_are_described() {
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    let mut taken = BTreeSet::new();
    for panel in panels() {
        assert!(ids.insert(panel["id"].as_u64()), "{panel}");
        let at = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && taken.insert((x, y)), "{} overlaps another or the edge", panel["title"]);
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        let title = panel["title"].as_str().expect("a title").to_owned();
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{title}");
        assert_eq!(panel["datasource"]["uid"], "prometheus", "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        assert!(titles.insert(title));
    }
}

#[test]
fn the_dashboard_is_provisioned() {
    let dashboard = dashboard();
    assert_eq!((&dashboard["uid"], &dashboard["title"]), (&"bespeak".into(), &"Bespeak".into()));
    let source = super::yaml("grafana/provisioning/datasources/prometheus.yaml");
    assert_eq!(source["datasources"][0]["uid"], "prometheus");
    let provider = super::yaml("grafana/provisioning/dashboards/bespeak.yaml");
    let compose = super::yaml("compose.yaml");
    let folder = provider["providers"][0]["options"]["path"].as_str().expect("a folder");
    let volumes = compose["services"]["grafana"]["volumes"].to_string();
    assert!(volumes.contains(&format!("./grafana/dashboards:{folder}:ro")), "{volumes}");
    let home = &compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    assert_eq!(home.as_str(), Some(format!("{folder}/bespeak.json").as_str()));
}

#[test]
fn the_guide_describes_every_panel() {
    let guide = std::fs::read_to_string(super::path("../docs/guides/metrics.md")).expect("the guide");
    for panel in panels() {
        let title = panel["title"].as_str().expect("a title");
        assert!(guide.contains(title), "docs/guides/metrics.md does not name the panel or row {title:?}");
    }
}
