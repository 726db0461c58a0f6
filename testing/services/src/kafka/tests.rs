//! A broker that is started, killed, frozen, and taken away by its gate.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use super::*;

const METADATA: i16 = 3;
const CREATE_TOPICS: i16 = 19;

/// A topic of one partition, by CreateTopics, version 2.
async fn create_topic(address: SocketAddr, name: &str) {
    let mut body = Vec::new();
    body.extend(1_i32.to_be_bytes());
    body.extend(i16::try_from(name.len()).unwrap().to_be_bytes());
    body.extend(name.as_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(1_i16.to_be_bytes());
    // Neither assignments nor settings
    body.extend([0; 8]);
    body.extend(20_000_i32.to_be_bytes());
    body.push(u8::from(false));
    let answer = protocol::ask(address, CREATE_TOPICS, 2, &body).await.unwrap();
    // How long it was throttled, one topic, its name, and no error
    let error = &answer[4 + 4 + 2 + name.len()..][..2];
    assert_eq!(error, [0, 0], "{answer:?}");
}

/// Whether a broker has a topic, by Metadata of all topics.
async fn has_topic(address: SocketAddr, name: &str) -> io::Result<bool> {
    let answer = protocol::ask(address, METADATA, 2, &(-1_i32).to_be_bytes()).await?;
    Ok(answer.windows(name.len()).any(|window| window == name.as_bytes()))
}

fn runs(pid: u32) -> bool {
    let found = Command::new("sh").args(["-c", r#"kill -0 "$0""#, &pid.to_string()]).output().unwrap();
    found.status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_comes_back_at_its_address_and_nothing_stays_when_it_is_dropped() {
    let mut broker = Kafka::start_own().await.unwrap();
    let address = broker.listens;
    assert_eq!(broker.url(), format!("kafka://{address}"));
    create_topic(address, "events").await;
    assert!(has_topic(address, "events").await.unwrap());
    let before = protocol::cluster(address).await.unwrap();
    assert_eq!(before.brokers, [broker.bootstrap()]);
    // When it is killed, then nobody answers
    broker.kill().await.unwrap();
    assert!(protocol::cluster(address).await.is_err());
    // When it is started again, then it is the same; what is in memory is lost
    broker.restart().await.unwrap();
    assert_eq!(protocol::cluster(address).await.unwrap(), before);
    let kept = has_topic(address, "events").await.unwrap();
    assert_eq!(kept, matches!(broker.origin, Origin::Docker(_)));
    // When it is dropped, frozen as it may be, then it is gone with its folder
    broker.freeze().await.unwrap();
    let pid = broker.pid();
    let folder = match &broker.origin {
        Origin::Binary { process, .. } => process.folder().to_owned(),
        _ => Path::new("none").to_owned(),
    };
    assert_eq!(fs::exists(&folder).unwrap(), pid.is_some());
    drop(broker);
    assert!(!pid.is_some_and(runs));
    assert!(!folder.exists());
    assert!(protocol::cluster(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_is_silent_and_goes_on_where_it_was() {
    let mut broker = Kafka::start_own().await.unwrap();
    create_topic(broker.listens, "events").await;
    broker.freeze().await.unwrap();
    broker.freeze().await.unwrap();
    let silent = has_topic(broker.listens, "events").await.unwrap_err();
    assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
    broker.thaw().await.unwrap();
    broker.thaw().await.unwrap();
    assert!(has_topic(broker.listens, "events").await.unwrap());
    // A frozen one can be killed, and is not frozen when it is back
    broker.freeze().await.unwrap();
    broker.restart().await.unwrap();
    assert!(protocol::cluster(broker.listens).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_behind_a_gate_sends_its_clients_there_and_outlives_its_closing() {
    let (mut broker, gate) = Kafka::start_own_behind_gate().await.unwrap();
    assert_eq!(broker.bootstrap(), gate.address().to_string());
    let cluster = protocol::cluster(gate.address()).await.unwrap();
    assert_eq!(cluster.brokers, [broker.bootstrap()]);
    create_topic(gate.address(), "events").await;
    gate.close();
    let refused = has_topic(gate.address(), "events").await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    gate.open().unwrap();
    assert!(has_topic(gate.address(), "events").await.unwrap());
    // It starts again whether the gate is open or not
    gate.close();
    broker.restart().await.unwrap();
    gate.open().unwrap();
    assert_eq!(protocol::cluster(gate.address()).await.unwrap(), cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_s_broker_is_taken_as_it_is() {
    let own = Kafka::start_own().await.unwrap();
    // Given a URL of two brokers, the first of which is not there
    let nobody = SocketAddr::from(([127, 0, 0, 1], port::free().unwrap()));
    let url = format!("kafka://{nobody},{}", own.bootstrap());
    let mut broker = Kafka::of_environment(&format!("{url}/")).await.unwrap();
    assert_eq!((broker.url(), broker.listens), (url, own.listens));
    assert_eq!(broker.describe(), "Kafka, BESPEAK_TEST_KAFKA_URL");
    // Then it is neither killed nor frozen
    assert!(matches!(broker.kill().await, Err(ServiceError::NotOurs(_))));
    assert!(matches!(broker.freeze().await, Err(ServiceError::NotOurs(_))));
    drop(broker);
    assert!(protocol::cluster(own.listens).await.is_ok());
}

#[test]
fn a_url_names_brokers_and_nothing_else() {
    assert_eq!(bootstrap("kafka://a:1,b.example:9092").unwrap(), "a:1,b.example:9092");
    for wrong in
        ["localhost:9092", "kafka://", "kafka://a", "kafka://a:9092/topic", "kafka://u:p@a:1", "kafka://a:1,"]
    {
        assert!(matches!(bootstrap(wrong), Err(ServiceError::Url { .. })), "{wrong}");
    }
}
