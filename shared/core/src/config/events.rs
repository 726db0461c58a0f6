//! Parses the settings of events: the event log, and the connection to Kafka.

use std::time::Duration;

use super::{ConfigError, Values};
use crate::events::{EventLog, KafkaOptions, Login, Security, TopicRetention};

/// The topic if the URL names none.
const TOPIC: &str = "bespeak.events";

pub(super) fn log(values: &Values, retention: TopicRetention) -> Result<EventLog, ConfigError> {
    const URL: &str = "BESPEAK_EVENTS_URL";
    let wrong = || values.error(URL, "embedded: or kafka://HOST:PORT[,HOST:PORT..][/TOPIC]");
    let url = values.text(URL);
    if url == "embedded:" || url == "embedded" {
        return Ok(EventLog::Embedded);
    }
    let rest = url.strip_prefix("kafka://").ok_or_else(wrong)?;
    let (servers, topic) = rest.split_once('/').unwrap_or((rest, ""));
    let is_server = |server: &str| {
        server.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains('@') && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    let topic = if topic.is_empty() { TOPIC } else { topic };
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    // Leaves room for the suffix of the dead-letter topic: Kafka's names have at most 249 characters.
    if !servers.split(',').all(is_server) || !topic.chars().all(legal) || topic.len() > 240 {
        return Err(wrong());
    }
    let partitions = i32::try_from(values.number("BESPEAK_EVENTS_PARTITIONS", 1, 10_000)?).unwrap_or(1);
    let replicas = match values.text("BESPEAK_EVENTS_REPLICAS") {
        "auto" => -1,
        _ => i32::try_from(values.number("BESPEAK_EVENTS_REPLICAS", 1, 100)?).unwrap_or(-1),
    };
    let group = values.text("BESPEAK_CONSUMER_GROUP");
    if group.is_empty() || group.len() > 64 || !group.chars().all(legal) {
        return Err(values.error("BESPEAK_CONSUMER_GROUP", "1 to 64 characters of A-Za-z0-9._-"));
    }
    let compression =
        values.choice("BESPEAK_EVENTS_COMPRESSION", &[("lz4", "lz4"), ("zstd", "zstd"), ("none", "none")])?;
    Ok(EventLog::Kafka(Box::new(KafkaOptions {
        servers: servers.to_owned(),
        topic: topic.to_owned(),
        partitions,
        retention,
        replicas,
        group: group.to_owned(),
        session: Duration::from_millis(values.number("BESPEAK_CONSUMER_SESSION_MS", 1_000, 300_000)?),
        instance: instance(values)?,
        compression,
        security: security(values)?,
    })))
}

fn instance(values: &Values) -> Result<Option<String>, ConfigError> {
    const NAME: &str = "BESPEAK_CONSUMER_INSTANCE";
    let instance = values.text(NAME);
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if instance.len() > 200 || !instance.chars().all(legal) {
        return Err(values.error(NAME, "empty, or 1 to 200 characters of A-Za-z0-9._-"));
    }
    Ok(Some(instance.to_owned()).filter(|instance| !instance.is_empty()))
}

/// Parses the CloudEvents `source` of events.
pub(super) fn source(values: &Values) -> Result<String, ConfigError> {
    const NAME: &str = "BESPEAK_EVENTS_SOURCE";
    let source = values.text(NAME);
    if source.is_empty() || !source.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(values.error(NAME, "a URI reference, such as /bespeak"));
    }
    Ok(source.to_owned())
}

/// How a build without the feature `kafka-tls` gets what a setting asks for.
const NEEDS_KAFKA_TLS: &str = "this build of Kafka's client has no OpenSSL; use a released binary or image, \
     `cargo install --path cli`, or build with `--features kafka-tls`";

fn security(values: &Values) -> Result<Security, ConfigError> {
    // Without the feature `kafka` there is no client at all, which is another error.
    let lacks_tls = cfg!(all(feature = "kafka", not(feature = "kafka-tls")));
    let tls = values.choice("BESPEAK_KAFKA_TLS", &[("false", false), ("true", true)])?;
    if tls && lacks_tls {
        return Err(values.error("BESPEAK_KAFKA_TLS", format!("false: {NEEDS_KAFKA_TLS}")));
    }
    let ca_file = Some(values.text("BESPEAK_KAFKA_CA_FILE").to_owned()).filter(|file| !file.is_empty());
    if ca_file.is_some() && !tls {
        return Err(values.error("BESPEAK_KAFKA_CA_FILE", "empty, unless BESPEAK_KAFKA_TLS is true"));
    }
    let mechanism = values.choice(
        "BESPEAK_KAFKA_LOGIN",
        &[
            ("none", "none"),
            ("scram-sha-512", "SCRAM-SHA-512"),
            ("scram-sha-256", "SCRAM-SHA-256"),
            ("plain", "PLAIN"),
            ("msk-iam", "msk-iam"),
        ],
    )?;
    // SCRAM hashes with OpenSSL; PLAIN does not, and MSK IAM is refused below, because it needs TLS.
    if mechanism.starts_with("SCRAM") && lacks_tls {
        return Err(values.error("BESPEAK_KAFKA_LOGIN", format!("none or plain: {NEEDS_KAFKA_TLS}")));
    }
    let required = |name, why: &str| match values.text(name) {
        "" => Err(values.error(name, format!("set: BESPEAK_KAFKA_LOGIN={why} needs it"))),
        value => Ok(value.to_owned()),
    };
    let login = match mechanism {
        "none" => None,
        "msk-iam" if !tls => {
            return Err(values.error("BESPEAK_KAFKA_TLS", "true: Amazon MSK accepts IAM only over TLS"));
        }
        "msk-iam" => Some(Login::MskIam { region: required("BESPEAK_KAFKA_REGION", "msk-iam")? }),
        mechanism => {
            let why = values.text("BESPEAK_KAFKA_LOGIN");
            let username = required("BESPEAK_KAFKA_USERNAME", why)?;
            Some(Login::Password { mechanism, username, password: required("BESPEAK_KAFKA_PASSWORD", why)? })
        }
    };
    Ok(Security { tls, ca_file, login })
}
