//! The monitoring of a stack: its alarms use existing metrics, and its logs are kept for a limited time.

use super::{said, stack::plain, template::stacks};

/// Metric filters match lines that the functions log, and alarms use metrics that exist.
#[test]
fn alarms_use_existing_metrics_and_notify() {
    let programs =
        [("RelayCronLogs", "functions/relay-cron/src"), ("ConsumerLogs", "functions/consumer/src")];
    for stack in stacks() {
        let resources = stack.resources();
        let of_type = |kind: &'static str| resources.iter().filter(move |(_, it)| it["Type"] == kind);
        let mut made = Vec::new();
        for (name, filter) in of_type("AWS::Logs::MetricFilter") {
            let properties = &filter["Properties"];
            let logs = plain(&properties["LogGroupName"]);
            let (_, folder) =
                programs.iter().find(|(group, _)| logs == format!("<{group}>")).expect("a function's");
            let source = sources(folder);
            let pattern = plain(&properties["FilterPattern"]);
            let message = pattern.split('"').nth(1).expect("a message");
            assert!(
                source.contains(&format!("\"{message}\"")),
                "{name}: nothing in {folder} logs {message:?}"
            );
            let transformation = &properties["MetricTransformations"][0];
            let field = plain(&transformation["MetricValue"]);
            let field = field.strip_prefix("$.").expect("a field");
            assert!(source.contains(field), "{name}: nothing in {folder} logs {field}");
            made.push((transformation["MetricNamespace"].clone(), transformation["MetricName"].clone()));
        }
        for (name, alarm) in of_type("AWS::CloudWatch::Alarm") {
            let properties = &alarm["Properties"];
            assert_eq!(properties["AlarmActions"][0], "<Alarms>", "{name}");
            let metric = (properties["Namespace"].clone(), properties["MetricName"].clone());
            let of_aws = plain(&metric.0).starts_with("AWS/");
            assert!(of_aws || made.contains(&metric), "{name}: no filter creates {metric:?}");
            assert!(
                !of_aws || properties["Dimensions"][0]["Value"].is_string(),
                "{name}: the dimension has no value"
            );
        }
    }
}

fn sources(folder: &str) -> String {
    let listed =
        said(std::process::Command::new("find").arg(super::root().join(folder)).args(["-name", "*.rs"]));
    listed.lines().map(|file| std::fs::read_to_string(file).expect("a source")).collect()
}

#[test]
fn function_log_groups_have_a_retention() {
    for stack in stacks() {
        let resources = stack.resources();
        for (name, function) in stack.functions() {
            let group = plain(&function["Properties"]["LoggingConfig"]["LogGroup"]);
            let group = &resources[group.trim_matches(['<', '>'])];
            assert!(group["Properties"]["RetentionInDays"].is_number(), "{name}");
            assert_eq!(function["Properties"]["LoggingConfig"]["LogFormat"], "JSON", "{name}");
            assert_eq!(function["Properties"]["Tracing"], "Active", "{name}");
        }
    }
}
