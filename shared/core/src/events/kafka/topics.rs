//! Creates the topics if they are missing, and checks their partitions and their settings.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    error::KafkaError,
    producer::{FutureProducer, Producer},
    types::RDKafkaErrorCode,
};

use super::{
    connect::{self, Context},
    topic_settings::{self, SettingProblem, Settings},
};
use crate::events::{KafkaOptions, Login};

/// The time-out for an answer of the brokers.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The reason why a topic cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// No broker answers; a retry may succeed.
    #[error("no broker of {servers} answers: {reason}")]
    Unavailable {
        /// The brokers.
        servers: String,
        /// What librdkafka said.
        reason: String,
    },
    /// The topic has another number of partitions than configured, so keys would be assigned to other partitions.
    #[error(
        "the topic {topic} has {found} partitions, but BESPEAK_EVENTS_PARTITIONS is {expected}: set it to {found}, or \
         use another topic (events of one key must stay in one partition)"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// The partitions that it has.
        found: usize,
        /// The partitions that are configured.
        expected: i32,
    },
    /// The topic has a setting with which it must not be used.
    #[error("the topic {topic} cannot be used: {reason}")]
    Settings {
        /// The topic.
        topic: String,
        /// The setting, and what would be right.
        reason: String,
    },
    /// The broker refuses to create it.
    #[error("the topic {topic} cannot be created: {reason}")]
    Refused {
        /// The topic.
        topic: String,
        /// The reason given by the broker.
        reason: String,
    },
}

/// Creates the topic of events and the topic of dead letters if they are missing, and checks the number of partitions
/// of the former, and the settings of both. Settings that may lose events are logged. Cancel-safe.
///
/// # Errors
/// No broker answers, a topic cannot be created, it has another number of partitions, or it is compacted.
pub async fn ensure_topics(config: &KafkaOptions) -> Result<(), TopicError> {
    let unavailable = |error: KafkaError| TopicError::Unavailable {
        servers: config.servers.clone(),
        reason: error.to_string(),
    };
    let admin: AdminClient<Context> =
        connect::client(config).create_with_context(Context::new(config)).map_err(unavailable)?;
    // Metadata is fetched through a producer: its polling thread gets tokens for a login by IAM, that of an admin
    // client does not.
    let producer: FutureProducer<Context> =
        connect::client(config).create_with_context(Context::new(config)).map_err(unavailable)?;
    let producer = Arc::new(producer);
    let dead_letters = config.dead_letter_topic();
    let replication = || TopicReplication::Fixed(config.replicas);
    let (of_events, of_letters) =
        (topic_settings::of_events(config), topic_settings::of_dead_letters(config));
    let topics = [
        with_settings(NewTopic::new(&config.topic, config.partitions, replication()), &of_events),
        with_settings(NewTopic::new(&dead_letters, 1, replication()), &of_letters),
    ];
    // Create only missing topics: an account may be allowed to use topics and not to create any.
    let existing = shapes_of(&producer, [&config.topic, &dead_letters]).await.map_err(unavailable)?;
    let missing =
        topics.iter().zip(existing).filter(|(_, shape)| shape.partitions == 0).map(|(topic, _)| topic);
    let missing: Vec<_> = missing.collect();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    if let (Some(Login::MskIam { .. }), false) = (&config.security.login, missing.is_empty()) {
        let reason = "topics cannot be created with a login by IAM: create both yourself".to_owned();
        return Err(TopicError::Refused { topic: format!("{} or {dead_letters}", config.topic), reason });
    }
    let created = if missing.is_empty() {
        Vec::new()
    } else {
        admin.create_topics(missing, &options).await.map_err(unavailable)?
    };
    for created in created {
        match created {
            Ok(topic) => tracing::info!(topic, "topic created"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(TopicError::Refused { topic, reason: code.to_string() }),
        }
    }
    let [events, letters] =
        shapes_of(&producer, [&config.topic, &dead_letters]).await.map_err(unavailable)?;
    if i32::try_from(events.partitions) != Ok(config.partitions) {
        let (topic, expected) = (config.topic.clone(), config.partitions);
        return Err(TopicError::Partitions { topic, found: events.partitions, expected });
    }
    check_settings(config, &admin, &options, [events, letters]).await
}

fn with_settings<'a>(topic: NewTopic<'a>, settings: &'a [(&'static str, String)]) -> NewTopic<'a> {
    settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
}

/// Checks the settings of both topics, as far as the broker reports them: it may not support that, or not allow it, and
/// neither must stop the start.
async fn check_settings(
    config: &KafkaOptions,
    admin: &AdminClient<Context>,
    options: &AdminOptions,
    [events, letters]: [Shape; 2],
) -> Result<(), TopicError> {
    if let Some(Login::MskIam { .. }) = &config.security.login {
        tracing::info!("the settings of the topics are not checked with a login by IAM");
        return Ok(());
    }
    let dead_letters = config.dead_letter_topic();
    for (topic, shape, is_events) in [(&config.topic, events, true), (&dead_letters, letters, false)] {
        let settings = match settings_of(admin, options, topic).await {
            Ok(settings) => settings,
            Err(reason) => {
                tracing::info!(topic, reason, "the broker does not report the settings of the topic");
                continue;
            }
        };
        let problems = if is_events {
            topic_settings::check_events(config, &settings, shape.replicas)
        } else {
            topic_settings::check_dead_letters(&settings, shape.replicas)
        };
        for problem in problems {
            match problem {
                SettingProblem::Refused(reason) => {
                    return Err(TopicError::Settings { topic: topic.clone(), reason });
                }
                SettingProblem::Warning(problem) => {
                    tracing::warn!(topic, problem, "a setting of the topic may lose events");
                }
            }
        }
    }
    Ok(())
}

/// The settings of a topic.
async fn settings_of(
    admin: &AdminClient<Context>,
    options: &AdminOptions,
    topic: &str,
) -> Result<Settings, String> {
    let specifier = ResourceSpecifier::Topic(topic);
    let described = admin.describe_configs([&specifier], options).await.map_err(|error| error.to_string())?;
    let resource = described.into_iter().next().ok_or("the answer is empty")?;
    let resource = resource.map_err(|code| code.to_string())?;
    Ok(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect())
}

/// The shape of a topic; all is 0 if it does not exist.
#[derive(Clone, Copy, Default)]
struct Shape {
    partitions: usize,
    /// The smallest number of copies of a partition.
    replicas: usize,
}

/// The shape of each topic. Fetches the metadata of all topics, because a broker may create a topic whose metadata is
/// requested by name.
async fn shapes_of<const N: usize>(
    producer: &Arc<FutureProducer<Context>>,
    names: [&str; N],
) -> Result<[Shape; N], KafkaError> {
    let producer = producer.clone();
    // librdkafka's call blocks its thread.
    let fetched = tokio::task::spawn_blocking(move || producer.client().fetch_metadata(None, TIMEOUT)).await;
    let metadata = fetched.map_err(|_| KafkaError::Canceled)??;
    let shape = |name| {
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        let partitions = found.map_or(&[][..], |topic| topic.partitions());
        let replicas = partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0);
        Shape { partitions: partitions.len(), replicas }
    };
    Ok(names.map(shape))
}
