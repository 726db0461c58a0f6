//! Starts Kafka's official image in a container: one node that is both broker and controller.
//!
//! The settings are those of <https://kafka.apache.org/documentation/#brokerconfigs>, each as an environment variable
//! (<https://hub.docker.com/r/apache/kafka>). Never: the end of a container, which is in `container.rs`.
//! Next: `mod.rs`, which tries Docker before a binary.

use std::net::SocketAddr;

use testcontainers::{GenericImage, ImageExt, core::IntoContainerPort};

use super::addresses::{Addresses, VARIABLE};
use crate::{ServiceError, container::Container};

/// The image.
pub(super) const IMAGE: &str = "apache/kafka:4.1.0";

/// The port for clients, inside the container.
const CLIENTS_PORT: u16 = 9092;

/// Starts a container. The broker may answer much later.
pub(super) async fn start(Addresses { listen, advertised }: Addresses) -> Result<Container, ServiceError> {
    let (name, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
    let port = listen.port();
    let image = GenericImage::new(name, tag).with_mapped_port(port, CLIENTS_PORT.tcp());
    let image = settings(advertised)
        .into_iter()
        .fold(image, |image, (variable, value)| image.with_env_var(variable, value));
    let container = Container::start(image, port).await?;
    let host = container.address.ip();
    if host.is_loopback() {
        Ok(container)
    } else {
        let reason =
            format!("the broker would advertise {advertised}, but containers are at {host}: set {VARIABLE}");
        Err(ServiceError::Docker(reason))
    }
}

/// All settings of the broker. The image ignores its default settings as soon as one variable is set.
fn settings(advertised: SocketAddr) -> [(&'static str, String); 17] {
    [
        // A fixed id, so that a restarted container finds its log.
        ("CLUSTER_ID", "YmVzcGVhay1zZXJ2aWNlcw".to_owned()),
        ("KAFKA_LOG_DIRS", "/tmp/kraft-combined-logs".to_owned()),
        ("KAFKA_NODE_ID", "1".to_owned()),
        ("KAFKA_PROCESS_ROLES", "broker,controller".to_owned()),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093".to_owned()),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER".to_owned()),
        // The advertised address may be a switch outside the container, which the broker itself cannot reach.
        ("KAFKA_INTER_BROKER_LISTENER_NAME", "INSIDE".to_owned()),
        (
            "KAFKA_LISTENERS",
            format!("CLIENTS://:{CLIENTS_PORT},CONTROLLER://localhost:9093,INSIDE://localhost:9094"),
        ),
        ("KAFKA_ADVERTISED_LISTENERS", format!("CLIENTS://{advertised},INSIDE://localhost:9094")),
        (
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
            "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT".to_owned(),
        ),
        // A misspelt topic is an error instead of a new topic.
        ("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false".to_owned()),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0".to_owned()),
        // A single broker can keep only one replica.
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1".to_owned()),
        ("KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR", "1".to_owned()),
    ]
}
