//! Which event log there is, and how to connect to it.

use std::fmt;

/// The event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventLog {
    /// None: events go from the outbox to the consumer of the same process.
    Embedded,
    /// A topic.
    Kafka(Box<KafkaOptions>),
}

/// A topic, and how its brokers are spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaOptions {
    /// `host:port`, comma-separated.
    pub servers: String,
    /// The topic of events; that of dead letters is `<topic>.dlq`.
    pub topic: String,
    /// How many partitions the topic has; it is created with so many.
    pub partitions: i32,
    /// How many copies of it there are when it is created; -1 leaves that to the broker.
    pub replicas: i32,
    /// The consumer group, and the name of its inbox.
    pub group: String,
    /// How batches are compressed.
    pub compression: &'static str,
    /// Who this is, and how nobody listens.
    pub security: Security,
}

/// How a connection to a broker is secured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// Whether it is TLS.
    pub tls: bool,
    /// A file of certificates that are trusted, instead of the system's.
    pub ca_file: Option<String>,
    /// How it logs in; not at all where there is none.
    pub login: Option<Login>,
}

/// How a client logs in.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// SASL with a name and a password.
    Password {
        /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        mechanism: &'static str,
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// IAM, as Amazon MSK has it; with the credentials of the environment.
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
