//! Makes sure that topics are there, with as many partitions as the configuration names.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::KafkaError,
    producer::{FutureProducer, Producer},
    types::RDKafkaErrorCode,
};

use super::connect::{self, Context};
use crate::events::{KafkaOptions, Login};

/// How long brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a topic is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// No broker answers; it may do so later.
    #[error("no broker of {servers} answers: {reason}")]
    Unavailable {
        /// The brokers.
        servers: String,
        /// What librdkafka said.
        reason: String,
    },
    /// It has another number of partitions, by which keys would be spread in another way.
    #[error(
        "the topic {topic} has {found} partitions and BESPEAK_EVENTS_PARTITIONS names {expected}: name {found}, or another \
         topic (events of one key must stay in one partition)"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// How many it has.
        found: usize,
        /// How many it must have.
        expected: i32,
    },
    /// The broker refuses to create it.
    #[error("the topic {topic} cannot be created: {reason}")]
    Refused {
        /// The topic.
        topic: String,
        /// What the broker said.
        reason: String,
    },
}

/// Creates the topic of events and that of its dead letters where they are missing, and checks the partitions of the
/// first. Cancel-safe.
///
/// # Errors
/// No broker answers, or the topic is not as it must be.
pub async fn ensure_topics(config: &KafkaOptions) -> Result<(), TopicError> {
    let unavailable = |error: KafkaError| TopicError::Unavailable {
        servers: config.servers.clone(),
        reason: error.to_string(),
    };
    let admin: AdminClient<Context> =
        connect::client(config).create_with_context(Context::new(config)).map_err(unavailable)?;
    // Its thread is given the tokens of a login by IAM, which an administrator's is not.
    let asking: FutureProducer<Context> =
        connect::client(config).create_with_context(Context::new(config)).map_err(unavailable)?;
    let asking = Arc::new(asking);
    let dead_letters = config.dead_letter_topic();
    let copies = || TopicReplication::Fixed(config.replicas);
    let topics = [
        NewTopic::new(&config.topic, config.partitions, copies()),
        NewTopic::new(&dead_letters, 1, copies()),
    ];
    // An account may be allowed to use topics and not to create any.
    let there = partitions_of(&asking, [&config.topic, &dead_letters]).await.map_err(unavailable)?;
    let missing = topics.iter().zip(there).filter(|(_, partitions)| *partitions == 0).map(|(topic, _)| topic);
    let missing: Vec<_> = missing.collect();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    if let (Some(Login::MskIam { .. }), false) = (&config.security.login, missing.is_empty()) {
        let reason = "with a login by IAM topics are not created here: create both yourself".to_owned();
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
    let [found] = partitions_of(&asking, [&config.topic]).await.map_err(unavailable)?;
    if i32::try_from(found) == Ok(config.partitions) {
        return Ok(());
    }
    Err(TopicError::Partitions { topic: config.topic.clone(), found, expected: config.partitions })
}

/// How many partitions topics have; 0 where there is no such topic. All topics are asked for, because a broker may create
/// one that is asked for by name.
async fn partitions_of<const N: usize>(
    asking: &Arc<FutureProducer<Context>>,
    names: [&str; N],
) -> Result<[usize; N], KafkaError> {
    let asking = asking.clone();
    // This question blocks.
    let asked = tokio::task::spawn_blocking(move || asking.client().fetch_metadata(None, PATIENCE)).await;
    let metadata = asked.map_err(|_| KafkaError::Canceled)??;
    let partitions = |name| {
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        found.map_or(0, |topic| topic.partitions().len())
    };
    Ok(names.map(partitions))
}
