//! Checks the settings of the topics that decide whether events and dead letters are kept, and sets them on creation.
//!
//! Receives what the broker reports and returns what is wrong. A compacted topic deletes events, so it is refused.
//! Everything else is a warning, because an operator may know better. Never: I/O, or a change of a topic that exists.

use std::{collections::HashMap, time::Duration};

use crate::events::{KafkaOptions, TopicRetention};

/// The settings of a topic, by name.
pub(super) type Settings = HashMap<String, String>;

/// What is wrong with a topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SettingProblem {
    /// It must not be used.
    Refused(String),
    /// It works, and may lose something.
    Warning(String),
}

/// The settings with which the topic of events is created.
pub(super) fn of_events(config: &KafkaOptions) -> Vec<(&'static str, String)> {
    let TopicRetention { inbox, events } = config.retention;
    // The inbox must remember longer than the topic: with the defaults, 8 days and 7.
    let kept = (inbox / 8 * 7).max(events);
    let mut settings =
        vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", kept.as_millis().to_string())];
    if config.replicas >= 3 {
        settings.push(("min.insync.replicas", "2".to_owned()));
    }
    settings
}

/// The settings with which the topic of dead letters is created: they stay until they are replayed or dropped.
pub(super) fn of_dead_letters(config: &KafkaOptions) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", "-1".to_owned()),
        ("retention.bytes", "-1".to_owned()),
    ];
    if config.replicas >= 3 {
        settings.push(("min.insync.replicas", "2".to_owned()));
    }
    settings
}

/// Checks the topic of events. `replicas` is the number of copies of each partition.
pub(super) fn check_events(
    config: &KafkaOptions,
    settings: &Settings,
    replicas: usize,
) -> Vec<SettingProblem> {
    let mut problems = check_both(settings, replicas);
    let TopicRetention { inbox, events } = config.retention;
    let hours = |time: Duration| time.as_secs() / 3_600;
    match settings.get("retention.ms").and_then(|value| value.parse::<i64>().ok()) {
        Some(kept) if u64::try_from(kept).map_or(true, |kept| Duration::from_millis(kept) >= inbox) => {
            problems.push(SettingProblem::Warning(format!(
                "its retention.ms is {kept}, which is not shorter than BESPEAK_INBOX_RETENTION_HOURS ({}): an event \
                 that is delivered again after that would be applied again",
                hours(inbox)
            )));
        }
        Some(kept) if u64::try_from(kept).is_ok_and(|kept| Duration::from_millis(kept) < events) => {
            problems.push(SettingProblem::Warning(format!(
                "its retention.ms is {kept}, which is shorter than BESPEAK_EVENT_RETENTION_HOURS ({}): a consumer that \
                 is away for longer misses events",
                hours(events)
            )));
        }
        _ => {}
    }
    problems
}

/// Checks the topic of dead letters.
pub(super) fn check_dead_letters(settings: &Settings, replicas: usize) -> Vec<SettingProblem> {
    let mut problems = check_both(settings, replicas);
    for name in ["retention.ms", "retention.bytes"] {
        if let Some(value) = settings.get(name).filter(|value| *value != "-1") {
            problems.push(SettingProblem::Warning(format!(
                "its {name} is {value} and should be -1: dead letters are deleted before an operator has replayed or \
                 dropped them"
            )));
        }
    }
    problems
}

fn check_both(settings: &Settings, replicas: usize) -> Vec<SettingProblem> {
    let mut problems = Vec::new();
    if let Some(policy) = settings.get("cleanup.policy").filter(|policy| policy.contains("compact")) {
        problems.push(SettingProblem::Refused(format!(
            "its cleanup.policy is {policy}, which deletes every record that is not the last of its key: \
             set it to delete"
        )));
    }
    let in_sync = settings.get("min.insync.replicas").and_then(|value| value.parse::<usize>().ok());
    if let Some(in_sync) = in_sync.filter(|in_sync| replicas > 1 && *in_sync < 2) {
        problems.push(SettingProblem::Warning(format!(
            "its min.insync.replicas is {in_sync} with {replicas} replicas, and should be at least 2: a record that \
             one broker acknowledged is lost with that broker"
        )));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Values};

    fn options() -> KafkaOptions {
        let values = Values::collect(
            |asked| (asked == "BESPEAK_EVENTS_URL").then(|| "kafka://b:9092/t".to_owned()),
            |_| None,
        );
        match Config::parse(&values).unwrap().events {
            crate::events::EventLog::Kafka(options) => *options,
            crate::events::EventLog::Embedded => unreachable!("the URL names Kafka"),
        }
    }

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_settings_of_creation_pass_the_check() {
        for replicas in [1, 3] {
            let options = KafkaOptions { replicas, ..options() };
            let copies = usize::try_from(replicas).unwrap();
            let set = |pairs: Vec<(&str, String)>| {
                pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Settings>()
            };
            assert_eq!(check_events(&options, &set(of_events(&options)), copies), []);
            assert_eq!(check_dead_letters(&set(of_dead_letters(&options)), copies), []);
        }
    }

    #[test]
    fn settings_that_lose_something_are_reported() {
        let warned = |problems: &[SettingProblem], part: &str| {
            assert!(
                matches!(problems, [SettingProblem::Warning(text)] if text.contains(part)),
                "{problems:?}"
            );
        };
        let events = |pairs: &[(&str, &str)], replicas| check_events(&options(), &settings(pairs), replicas);
        for compacted in ["compact", "compact,delete", "delete,compact"] {
            let refused = events(&[("cleanup.policy", compacted)], 1);
            assert!(
                matches!(&refused[..], [SettingProblem::Refused(text)] if text.contains("set it to delete"))
            );
        }
        warned(&events(&[("retention.ms", "-1")], 1), "applied again");
        warned(&events(&[("retention.ms", "691200000")], 1), "BESPEAK_INBOX_RETENTION_HOURS (192)");
        warned(&events(&[("retention.ms", "3600000")], 1), "BESPEAK_EVENT_RETENTION_HOURS (24)");
        assert_eq!(events(&[("retention.ms", "604800000")], 1), []);
        warned(&events(&[("min.insync.replicas", "1")], 3), "at least 2");
        assert_eq!(events(&[("min.insync.replicas", "1")], 1), []);
        warned(&check_dead_letters(&settings(&[("retention.ms", "604800000")]), 1), "should be -1");
        assert_eq!(check_dead_letters(&Settings::new(), 3), [], "a broker that reports nothing");
    }
}
