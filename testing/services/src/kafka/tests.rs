//! Tests of a broker that is started, killed, frozen, and made unreachable by its switch.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use super::*;

const METADATA: i16 = 3;
const CREATE_TOPICS: i16 = 19;

/// Creates a topic with one partition, by CreateTopics, version 2.
async fn create_topic(address: SocketAddr, name: &str) {
    let mut body = Vec::new();
    body.extend(1_i32.to_be_bytes());
    body.extend(i16::try_from(name.len()).unwrap().to_be_bytes());
    body.extend(name.as_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(1_i16.to_be_bytes());
    // No assignments and no settings
    body.extend([0; 8]);
    body.extend(20_000_i32.to_be_bytes());
    body.push(u8::from(false));
    let response = protocol::request(address, CREATE_TOPICS, 2, &body).await.unwrap();
    // The throttle time, one topic, its name, and error code 0
    let error = &response[4 + 4 + 2 + name.len()..][..2];
    assert_eq!(error, [0, 0], "{response:?}");
}

/// Whether a broker has a topic, by Metadata of all topics.
async fn has_topic(address: SocketAddr, name: &str) -> io::Result<bool> {
    let response = protocol::request(address, METADATA, 2, &(-1_i32).to_be_bytes()).await?;
    Ok(response.windows(name.len()).any(|window| window == name.as_bytes()))
}

fn is_running(pid: u32) -> bool {
    let found = Command::new("sh").args(["-c", r#"kill -0 "$0""#, &pid.to_string()]).output().unwrap();
    found.status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_restarts_at_the_same_address_and_a_dropped_one_leaves_nothing_behind() {
    let mut broker = Kafka::start_own().await.unwrap();
    let address = broker.origin.address();
    assert_eq!(broker.url(), format!("kafka://{address}"));
    create_topic(address, "events").await;
    assert!(has_topic(address, "events").await.unwrap());
    let before = protocol::cluster(address).await.unwrap();
    assert_eq!(before.brokers, [broker.bootstrap()]);
    // When it is killed, then nothing answers
    broker.kill().await.unwrap();
    assert!(protocol::cluster(address).await.is_err());
    // When it is started again, then it is the same cluster, and data in memory is lost
    broker.restart().await.unwrap();
    assert_eq!(protocol::cluster(address).await.unwrap(), before);
    let kept = has_topic(address, "events").await.unwrap();
    assert_eq!(kept, matches!(broker.origin.source(), Source::Docker(_)));
    // When it is dropped while it is frozen, then process and folder are gone
    broker.freeze().await.unwrap();
    let pid = broker.pid();
    let folder = match broker.origin.source() {
        Source::Binary(process) => process.folder().to_owned(),
        _ => Path::new("none").to_owned(),
    };
    assert_eq!(fs::exists(&folder).unwrap(), pid.is_some());
    drop(broker);
    assert!(!pid.is_some_and(is_running));
    assert!(!folder.exists());
    assert!(protocol::cluster(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_does_not_answer_and_continues_when_thawed() {
    let mut broker = Kafka::start_own().await.unwrap();
    let address = broker.origin.address();
    create_topic(address, "events").await;
    broker.freeze().await.unwrap();
    broker.freeze().await.unwrap();
    let timed_out = has_topic(address, "events").await.unwrap_err();
    assert_eq!(timed_out.kind(), io::ErrorKind::TimedOut);
    broker.thaw().await.unwrap();
    broker.thaw().await.unwrap();
    assert!(has_topic(address, "events").await.unwrap());
    // A frozen broker can be killed, and is not frozen after the restart
    broker.freeze().await.unwrap();
    broker.restart().await.unwrap();
    assert!(protocol::cluster(address).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_behind_a_switch_advertises_the_switch_and_survives_its_outage() {
    let (mut broker, switch) = Kafka::start_own_behind_switch().await.unwrap();
    assert_eq!(broker.bootstrap(), switch.address().to_string());
    let cluster = protocol::cluster(switch.address()).await.unwrap();
    assert_eq!(cluster.brokers, [broker.bootstrap()]);
    create_topic(switch.address(), "events").await;
    switch.turn_off();
    let refused = has_topic(switch.address(), "events").await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    switch.turn_on().unwrap();
    assert!(has_topic(switch.address(), "events").await.unwrap());
    // The broker restarts whether the switch is on or off
    switch.turn_off();
    broker.restart().await.unwrap();
    switch.turn_on().unwrap();
    assert_eq!(protocol::cluster(switch.address()).await.unwrap(), cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_s_broker_is_used_and_never_killed() {
    let own = Kafka::start_own().await.unwrap();
    // Given a URL of two brokers, the first of which does not run
    let unused = SocketAddr::from(([127, 0, 0, 1], port::free().unwrap()));
    let url = format!("kafka://{unused},{}", own.bootstrap());
    let mut broker = Kafka::from_environment(&format!("{url}/")).await.unwrap();
    assert_eq!((broker.url(), broker.origin.address()), (url, own.origin.address()));
    assert_eq!(broker.describe(), "Kafka, BESPEAK_TEST_KAFKA_URL");
    // Then it can be neither killed nor frozen
    assert!(matches!(broker.kill().await, Err(ServiceError::NotOwned(_))));
    assert!(matches!(broker.freeze().await, Err(ServiceError::NotOwned(_))));
    drop(broker);
    assert!(protocol::cluster(own.origin.address()).await.is_ok());
}
