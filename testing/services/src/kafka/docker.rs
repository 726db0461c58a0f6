//! Kafka's own image, in a container of its own: one node that is broker and controller.
//!
//! Never: how a container ends; `container.rs` knows. Settings: <https://kafka.apache.org/documentation/#brokerconfigs>, each an
//! environment variable (<https://hub.docker.com/r/apache/kafka>). Next: `mod.rs`, which tries this before a binary.

use std::net::SocketAddr;

use testcontainers::{GenericImage, ImageExt, core::IntoContainerPort};

use super::{Place, VARIABLE};
use crate::{ServiceError, container::Container};

/// Where the broker comes from.
pub(super) const IMAGE: &str = "apache/kafka:4.1.0";

/// Where its clients come in.
const CLIENTS_PORT: u16 = 9092;

/// Starts one; the broker may answer much later.
pub(super) async fn start(Place { listens, advertised }: Place) -> Result<Container, ServiceError> {
    let (name, tag) = IMAGE.split_once(':').unwrap_or((IMAGE, "latest"));
    let port = listens.port();
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
            format!("a broker tells its clients {advertised}, and containers are at {host}: set {VARIABLE}");
        Err(ServiceError::Docker(reason))
    }
}

/// One variable takes away the image's own settings, so that all that are needed are here.
fn settings(advertised: SocketAddr) -> [(&'static str, String); 17] {
    [
        // It is kept when the container is killed and started again.
        ("CLUSTER_ID", "YmVzcGVhay1zZXJ2aWNlcw".to_owned()),
        ("KAFKA_LOG_DIRS", "/tmp/kraft-combined-logs".to_owned()),
        ("KAFKA_NODE_ID", "1".to_owned()),
        ("KAFKA_PROCESS_ROLES", "broker,controller".to_owned()),
        ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093".to_owned()),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER".to_owned()),
        // What clients are told may be a gate outside, which the broker's own connections cannot reach.
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
        // A misspelt topic is an error, not a topic.
        ("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false".to_owned()),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0".to_owned()),
        // There is one broker to keep copies.
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1".to_owned()),
        ("KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR", "1".to_owned()),
        ("KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR", "1".to_owned()),
    ]
}
