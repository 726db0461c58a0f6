//! The alerts are valid, each is tested firing and silent, and each has a runbook.

use std::{collections::BTreeSet, process::Command};

use bespeak_services::Prometheus;
use serde_json::Value;

use super::{path, yaml};

/// Runs `promtool` in the folder of the rules; returns its output.
fn promtool(arguments: &[&str]) -> String {
    let mut tool: Command = Prometheus::promtool().unwrap_or_else(|missing| panic!("{missing}"));
    let ran = tool.args(arguments).current_dir(path("prometheus")).output().expect("it can be run");
    let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(ran.status.success(), "promtool {arguments:?}: {said}");
    said
}

pub(super) fn rules() -> Vec<Value> {
    let file = yaml("prometheus/rules.yaml");
    let groups = file["groups"].as_array().expect("groups").clone();
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

fn names() -> BTreeSet<String> {
    rules().iter().map(|rule| rule["alert"].as_str().expect("an alert").to_owned()).collect()
}

#[test]
fn promtool_accepts_configuration_and_rules() {
    promtool(&["check", "config", "prometheus.yaml"]);
    let said = promtool(&["check", "rules", "rules.yaml"]);
    assert!(said.contains(&format!("{} rules found", rules().len())), "{said}");
}

#[test]
fn each_alert_is_tested_firing_and_silent() {
    promtool(&["test", "rules", "rules.test.yaml"]);
    let tests = yaml("prometheus/rules.test.yaml");
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for case in tests["tests"].as_array().expect("tests") {
        for expected in case["alert_rule_test"].as_array().expect("expectations") {
            let name = expected["alertname"].as_str().expect("a name").to_owned();
            let alerts = expected["exp_alerts"].as_array().expect("alerts");
            if alerts.is_empty() {
                silent.insert(name)
            } else {
                fires.insert(name)
            };
        }
    }
    assert_eq!(fires, names(), "each is shown to fire");
    assert_eq!(silent, names(), "each is shown to be silent");
}

#[test]
fn each_alert_has_a_severity_and_a_runbook() {
    let guide = std::fs::read_to_string(path("../docs/guides/metrics.md")).expect("the guide");
    for rule in rules() {
        let name = rule["alert"].as_str().expect("an alert");
        let urgency = rule["labels"]["severity"].as_str().expect("a severity");
        assert!(["page", "ticket"].contains(&urgency), "{name}: {urgency}");
        assert!(rule["annotations"]["summary"].as_str().is_some_and(|text| text.len() > 15), "{name}");
        let place = rule["annotations"]["runbook"].as_str().expect("a runbook");
        assert_eq!(place, format!("docs/guides/metrics.md#{}", name.to_lowercase()));
        let heading = format!("### {name}\n");
        let (_, advice) = guide.split_once(&heading).unwrap_or_else(|| panic!("no `{heading}` in the guide"));
        let advice = advice.split("\n#").next().unwrap_or_default();
        assert!(advice.len() > 100, "{name}: {advice:?} is no advice");
    }
}
