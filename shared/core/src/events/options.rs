//! The options of the event log: which one, and how to connect to it.

use std::{fmt, time::Duration};

/// The event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventLog {
    /// No log: events go from the outbox to a consumer in the same process.
    Embedded,
    /// A Kafka topic.
    Kafka(Box<KafkaOptions>),
}

/// A topic, and the connection to its brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaOptions {
    /// The brokers, as `host:port`, comma-separated.
    pub servers: String,
    /// The topic of events; that of dead letters is `<topic>.dlq`.
    pub topic: String,
    /// The number of partitions of the topic of events.
    pub partitions: i32,
    /// How long the product remembers events, which the topic must fit.
    pub retention: TopicRetention,
    /// The replication factor of topics that are created; -1 for the default of the broker.
    pub replicas: i32,
    /// The consumer group, and the name of its inbox.
    pub group: String,
    /// The time after which a consumer that sends no heartbeat loses its partitions.
    pub session: Duration,
    /// The name of this process in its consumer group, which survives a restart (static membership); `None` for a new
    /// member with each start.
    pub instance: Option<String>,
    /// The compression of batches: `lz4`, `zstd` or `none`.
    pub compression: &'static str,
    /// Encryption and login.
    pub security: Security,
}

/// The times that the retention of the topic of events should lie between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRetention {
    /// How long a consumer remembers which events it has applied. The topic should forget earlier.
    pub inbox: Duration,
    /// How long the outbox keeps published events. The topic should keep them as long at least.
    pub events: Duration,
}

/// How a connection to a broker is secured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Whether to use TLS.
    pub tls: bool,
    /// A file with trusted certificates, instead of those of the system.
    pub ca_file: Option<String>,
    /// The login; `None` for no login.
    pub login: Option<Login>,
}

/// A login to the brokers.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// SASL with a user name and a password.
    Password {
        /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        mechanism: &'static str,
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
    /// AWS IAM, as supported by Amazon MSK, with the credentials of the environment.
    MskIam {
        /// The region of the cluster.
        region: String,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { mechanism, username, .. } => write!(f, "{mechanism} as {username}"),
            Self::MskIam { region } => write!(f, "AWS_MSK_IAM in {region}"),
        }
    }
}

impl KafkaOptions {
    /// The topic of dead letters.
    pub fn dead_letter_topic(&self) -> String {
        format!("{}.dlq", self.topic)
    }
}
