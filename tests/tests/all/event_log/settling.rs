//! The Kafka consumer never passes over records, and its dead letters neither stop nor mislead it. Most of these
//! stories use librdkafka's mock cluster, because they need a broker that misbehaves on command.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bespeak::{
    effects::SmartKey,
    engine::{EventType, Timestamp, Token},
    envelope::{Incoming, Origin, Record},
    events::{
        KafkaOptions,
        consume::Consumer,
        dead_letter::{DeadLetterError, DeadLetterQueue, DeadLetterSink},
        kafka::{KafkaConsumer, TopicDeadLetters},
    },
    store::{Applied, Contention, DeadLetter, Guard, InboxStore, KeyMismatch, Purged, StoreError},
};
use bespeak_tests::{Api, Books, Topic, until_within};
use rdkafka::{
    Offset, TopicPartitionList,
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    message::{Header, OwnedHeaders},
    mocking::MockCluster,
    producer::{DefaultProducerContext, FutureProducer, FutureRecord},
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

/// A mock cluster with a topic of one partition, and its topic of dead letters.
struct Mock {
    cluster: MockCluster<'static, DefaultProducerContext>,
    topic: String,
}

impl Mock {
    fn new() -> Self {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        let topic = format!("mocked.{}", bespeak_tests::unique());
        cluster.create_topic(&topic, 1, 1).expect("a topic");
        cluster.create_topic(&format!("{topic}.dlq"), 1, 1).expect("a topic");
        Self { cluster, topic }
    }

    fn options(&self) -> KafkaOptions {
        Topic::named(&self.cluster.bootstrap_servers(), &self.topic).config()
    }

    async fn put(&self, kind: EventType) {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .create()
            .expect("a producer");
        let (id, token) = (Uuid::now_v7().to_string(), Uuid::now_v7().to_string());
        let value = format!(r#"{{"token":"{token}","version":2,"items":[]}}"#);
        let mut headers = OwnedHeaders::new();
        for (key, value) in [
            ("ce_specversion", "1.0"),
            ("ce_id", id.as_str()),
            ("ce_source", "/test"),
            ("ce_type", kind.as_str()),
            ("ce_time", "2026-01-01T00:00:00Z"),
        ] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let record = FutureRecord::to(&self.topic).key(&token).payload(&value).headers(headers);
        producer.send(record, PATIENCE).await.expect("delivered");
    }

    /// The offset that the group of these options has committed.
    fn committed(&self) -> Option<i64> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", &self.options().group)
            .create()
            .expect("a consumer");
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, 0);
        let offsets = consumer.committed_offsets(asked, PATIENCE).expect("committed");
        match offsets.elements()[0].offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }
}

/// An inbox in which another transaction holds the rows of every `cancelled` event.
#[derive(Default)]
struct Contended {
    attempts: AtomicU64,
    applied: Mutex<HashSet<Uuid>>,
}

#[async_trait]
impl InboxStore for Contended {
    async fn apply(&self, _: &str, events: &[Incoming]) -> Result<Applied, StoreError> {
        if events.iter().any(|event| event.kind == EventType::Cancelled) {
            self.attempts.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError::Contended {
                by: Contention::LockTimeout,
                attempts: 1,
                source: "a row lock".into(),
            });
        }
        self.applied.lock().expect("no panic").extend(events.iter().map(|event| event.event_id));
        Ok(Applied { applied: events.len() as u64, ..Applied::default() })
    }

    async fn smart_key(&self, _: Token) -> Result<Option<SmartKey>, StoreError> {
        Ok(None)
    }

    async fn applied(&self, _: &str, _: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        Ok(self.applied.lock().expect("no panic").clone())
    }

    async fn key_mismatches(&self) -> Result<Vec<(Token, KeyMismatch)>, StoreError> {
        Ok(Vec::new())
    }

    async fn events_kept_since(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn purge_inbox(&self, _: Duration, _: u32) -> Result<Purged, StoreError> {
        Ok(Purged::default())
    }
}

/// A consumer stops while a batch waits for the database, and the records behind it have arrived already. It must not
/// apply them, because their offset would cover those that wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_stops_reads_nothing_behind_a_batch_that_waits() {
    let books = Books::sqlite();
    let store = books.open(None, Guard::RowLock).await;
    // The old defect showed in every second run.
    for round in 0..8 {
        let mock = Mock::new();
        let options = mock.options();
        let letters = TopicDeadLetters::new(&options, store.clone()).expect("a producer");
        let inbox = Arc::new(Contended::default());
        let consumer = Consumer::new(inbox.clone(), "test", Arc::new(letters), Arc::new(Notify::new()));
        mock.put(EventType::Cancelled).await;
        let member = KafkaConsumer::new(&options, Arc::new(consumer)).expect("a member");
        let stop = CancellationToken::new();
        let running = tokio::spawn(member.run(stop.clone()));
        until_within(PATIENCE, "the first record waits", async || inbox.attempts.load(Ordering::SeqCst) > 0)
            .await;
        for _ in 0..3 {
            mock.put(EventType::Committed).await;
        }
        // Lets the records arrive in the consumer's queue. If they do not, the test passes without a reason.
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.cancel();
        running.await.expect("no panic");
        assert!(
            inbox.applied.lock().expect("no panic").is_empty(),
            "round {round}: nothing behind it is applied"
        );
        assert_eq!(mock.committed(), None, "round {round}: no offset is committed");
    }
}

fn letter(offset: i64, headers: &[(&str, &str)], topic: &str) -> DeadLetter {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    let record = Record {
        key: Some(b"k".to_vec()),
        headers: headers.collect(),
        value: Some(b"{}".to_vec()),
        origin: Origin { topic: topic.into(), partition: 0, offset },
    };
    DeadLetter { record, reason: "no event".to_owned(), attempts: 1 }
}

/// A broker that lost track of the producer's sequence refuses everything that it sends. The producer of dead letters
/// is replaced then, so that the consumer does not stand still until its process is restarted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_producer_of_dead_letters_is_replaced() {
    let api = Api::start(Books::sqlite()).await;
    let store = api.books.open(None, Guard::RowLock).await;
    let mock = Mock::new();
    let letters = TopicDeadLetters::new(&mock.options(), store).expect("a producer");
    letters.keep(&[letter(0, &[], &mock.topic)]).await.expect("stored");
    let lost = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    mock.cluster.request_errors(RDKafkaApiKey::Produce, &[lost]);
    let refused = letters.keep(&[letter(1, &[], &mock.topic)]).await;
    assert!(matches!(refused, Err(DeadLetterError::Unavailable(_))), "{refused:?}");
    letters.keep(&[letter(1, &[], &mock.topic)]).await.expect("stored by another producer");
}

/// A record brings headers of the names that dead letters add. Ours count, and it is never published to a topic of
/// the stranger's choice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_strangers_do_not_direct_a_replay() {
    let api = Api::start(Books::sqlite()).await;
    let store = api.books.open(None, Guard::RowLock).await;
    let mock = Mock::new();
    mock.cluster.create_topic("payments", 1, 1).expect("a topic");
    let letters = TopicDeadLetters::new(&mock.options(), store.clone()).expect("a producer");
    let forged =
        [("dlq_topic", "payments"), ("dlq_reason", "all is well"), ("dlq_omitted", "7"), ("dlq_offset", "5")];
    letters.keep(&[letter(3, &forged, &mock.topic)]).await.expect("stored");
    let kept = letters.list(None, 10).await.expect("listed");
    let [kept] = &kept[..] else { panic!("{kept:?}") };
    let origin = &kept.letter.record.origin;
    assert_eq!((&*origin.topic, origin.offset, &*kept.letter.reason), (&*mock.topic, 3, "no event"));
    // A stranger may also write to the topic of dead letters.
    put_plain(&mock, &format!("{}.dlq", mock.topic), &forged).await;
    let done = letters.replay_all().await.expect("replayed");
    assert_eq!((done.replayed.len(), done.refused.len()), (1, 1), "{done:?}");
    assert!(matches!(done.refused[0].1, DeadLetterError::ForeignTopic { .. }), "{done:?}");
    let again = letters.replay(done.refused[0].0).await;
    assert!(matches!(again, Err(DeadLetterError::ForeignTopic { .. })), "{again:?}");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", mock.cluster.bootstrap_servers())
        .set("group.id", "reader")
        .create()
        .expect("a consumer");
    assert_eq!(consumer.fetch_watermarks("payments", 0, PATIENCE).expect("read").1, 0, "nothing is there");
    assert_eq!(consumer.fetch_watermarks(&mock.topic, 0, PATIENCE).expect("read").1, 1, "it is back");
}

async fn put_plain(mock: &Mock, topic: &str, headers: &[(&str, &str)]) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", mock.cluster.bootstrap_servers())
        .create()
        .expect("a producer");
    let mut owned = OwnedHeaders::new();
    for (key, value) in headers {
        owned = owned.insert(Header { key, value: Some(*value) });
    }
    let record = FutureRecord::to(topic).key("k").payload("{}").headers(owned);
    producer.send(record, PATIENCE).await.expect("delivered");
}

/// Many dead letters are listed and replayed page by page, and once all are resolved, neither the topic nor the
/// database keeps anything of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resolved_dead_letters_leave_nothing_behind() {
    let api = Api::start(Books::sqlite()).await;
    let store = api.books.open(None, Guard::RowLock).await;
    let topic = Topic::new().await;
    bespeak::events::kafka::ensure_topics(&topic.config()).await.expect("created");
    let letters = TopicDeadLetters::new(&topic.config(), store.clone()).expect("a producer");
    let many: Vec<DeadLetter> = (0..1_100).map(|n| letter(n, &[], topic.name())).collect();
    for part in many.chunks(400) {
        letters.keep(part).await.expect("stored");
    }
    let listed = letters.list(None, 700).await.expect("listed");
    let offsets: Vec<i64> = listed.iter().map(|kept| kept.letter.record.origin.offset).collect();
    assert_eq!(offsets, (0..700).collect::<Vec<i64>>(), "in their order");
    letters.drop_letter(listed[1].id).await.expect("dropped");
    let done = letters.replay_all().await.expect("replayed");
    assert_eq!((done.replayed.len(), done.refused.len()), (1_099, 0));
    assert_eq!(letters.list(None, 10).await.expect("listed").len(), 0);
    assert_eq!(topic.read().await.len(), 1_099);
    let left = api.books.count("SELECT COUNT(*) FROM dead_letters_settled").await;
    println!("{left} resolutions are left");
}
