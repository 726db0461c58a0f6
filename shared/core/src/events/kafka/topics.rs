//! Creates the topics if they are missing, and checks their partitions.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::KafkaError,
    producer::{FutureProducer, Producer},
    types::RDKafkaErrorCode,
};

use super::connect::{self, Context};
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
        "the topic {topic} has {found} partitions, but BESPEAK_EVENTS_PARTITIONS is {expected}: set it to {found}, or use \
         another topic (events of one key must stay in one partition)"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// The partitions that it has.
        found: usize,
        /// The partitions that are configured.
        expected: i32,
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
/// of the former. Cancel-safe.
///
/// # Errors
/// No broker answers, a topic cannot be created, or it has another number of partitions.
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
    let topics = [
        NewTopic::new(&config.topic, config.partitions, replication()),
        NewTopic::new(&dead_letters, 1, replication()),
    ];
    // Create only missing topics: an account may be allowed to use topics and not to create any.
    let existing = partitions_of(&producer, [&config.topic, &dead_letters]).await.map_err(unavailable)?;
    let missing =
        topics.iter().zip(existing).filter(|(_, partitions)| *partitions == 0).map(|(topic, _)| topic);
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
    let [found] = partitions_of(&producer, [&config.topic]).await.map_err(unavailable)?;
    if i32::try_from(found) == Ok(config.partitions) {
        return Ok(());
    }
    Err(TopicError::Partitions { topic: config.topic.clone(), found, expected: config.partitions })
}

/// The number of partitions of each topic; 0 if the topic does not exist. Fetches the metadata of all topics, because
/// a broker may create a topic whose metadata is requested by name.
async fn partitions_of<const N: usize>(
    producer: &Arc<FutureProducer<Context>>,
    names: [&str; N],
) -> Result<[usize; N], KafkaError> {
    let producer = producer.clone();
    // librdkafka's call blocks its thread.
    let fetched = tokio::task::spawn_blocking(move || producer.client().fetch_metadata(None, TIMEOUT)).await;
    let metadata = fetched.map_err(|_| KafkaError::Canceled)??;
    let partitions = |name| {
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        found.map_or(0, |topic| topic.partitions().len())
    };
    Ok(names.map(partitions))
}
