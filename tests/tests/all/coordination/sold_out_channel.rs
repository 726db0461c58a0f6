//! The channel on which processes share that a resource is sold out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bespeak_services::Redis;
use bespeak_tests::{Books, Client, Server, until_within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{PATIENCE, one, redis, reserve, reserve_on, server, token_of};

/// How far a refusal may lag behind a release by another process (I6).
const BOUND: Duration = Duration::from_millis(50);

/// A client that is refused again and again, so that its server has hints to publish. It ends when dropped.
struct Crowd {
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
}

impl Crowd {
    async fn at(server: &Server, name: &'static str) -> Self {
        let crowd = Self { stop: Arc::default(), refused: Arc::default() };
        let (stop, refused) = (crowd.stop.clone(), crowd.refused.clone());
        let mut connection = server.connect().await;
        tokio::spawn(async move {
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // More units than the resource has, so that the client never takes one.
                let body = json!({"resourceId": "hot", "quantity": 2, "ttlSeconds": 600});
                let answer = reserve_on(&mut connection, &format!("{name}-{turn}"), &body).await;
                assert_eq!(answer.status, 409, "{answer:?}");
                refused.fetch_add(1, Ordering::Relaxed);
            }
        });
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A process refuses a resource that another process found sold out, without a transaction of its own. A retry under
/// the key of a reservation still gets that reservation, at either process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_refuses_from_another_s_sold_out_hint() {
    let (books, (redis, _gate)) = (Books::mysql().await, redis().await);
    let one_server = server(&books, &redis.url(), &[]).await;
    let other = server(&books, &redis.url(), &[]).await;
    one_server.stock("hot", 1).await;
    let (status, first) = reserve(&one_server, "winner", &one("hot")).await;
    assert_eq!(status, 200);
    let crowd = Crowd::at(&one_server, "crowd").await;
    let (before, mut asked) = (other.metric("bespeak_lane_batch_commands_count").await, 0);
    let refused = async || other.metric("bespeak_redis_gate_refusals_total").await;
    let began = Instant::now();
    while refused().await < 20.0 {
        assert!(began.elapsed() < PATIENCE, "too few refusals from hints: {}", refused().await);
        for _ in 0..10 {
            asked += 1;
            let (status, answer) = reserve(&other, &format!("other-{asked}"), &one("hot")).await;
            assert_eq!((status, &answer["availableStock"]), (409, &json!(0)), "{answer}");
            // I5 holds while the hint is in force.
            let (status, again) = reserve(&other, "winner", &one("hot")).await;
            assert_eq!((status, token_of(&again)), (200, token_of(&first)));
            let (status, _) = reserve(&other, "winner", &json!({"resourceId": "hot", "quantity": 2})).await;
            assert_eq!(status, 422, "the key belongs to another request");
        }
    }
    let transactions = other.metric("bespeak_lane_batch_commands_count").await - before;
    let from_memory = other.metric("bespeak_refusals_from_memory_total").await;
    assert!(from_memory >= refused().await);
    assert!(transactions < f64::from(3 * asked), "{transactions} transactions for {} requests", 3 * asked);
    drop(crowd);
    books.assert_consistent().await;
}

/// I6: a unit that is released at one process can be sold at the other at most 50 ms later, even while both keep
/// receiving hints that the resource is sold out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn released_stock_is_sold_by_the_other_process_within_the_bound() {
    let (books, (redis, _gate)) = (Books::mysql().await, redis().await);
    let one_server = server(&books, &redis.url(), &[]).await;
    let other = server(&books, &redis.url(), &[]).await;
    one_server.stock("hot", 1).await;
    let mut held = token_of(&reserve(&one_server, "first", &one("hot")).await.1).to_owned();
    let _crowds = [Crowd::at(&one_server, "a").await, Crowd::at(&other, "b").await];
    let mut connection = other.connect().await;
    for round in 0..40 {
        one_server.act("release", &held).await;
        let given_back = Instant::now();
        let mut turn = 0;
        held = loop {
            turn += 1;
            let asked = Instant::now();
            let answer = reserve_on(&mut connection, &format!("{round}-{turn}"), &one("hot")).await;
            if answer.status == 200 {
                let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
                break token_of(&json).to_owned();
            }
            assert_eq!(answer.status, 409);
            let late = asked.duration_since(given_back);
            assert!(late < BOUND, "a request {late:?} after the release was refused");
        };
    }
    books.assert_consistent().await;
}

/// A hint is judged by its version and by the time of its finding, not by the time of its arrival.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_hint_is_ignored() {
    let (books, (redis, _gate)) = (Books::mysql().await, redis().await);
    let server = server(&books, &redis.url(), &[]).await;
    server.stock("hot", 1).await;
    server.stock("cold", 1).await;
    let channel = channel(&redis).await;
    let heard = async || server.metric("bespeak_redis_gate_messages_total").await;
    let tell = async |resource: &str, version: u64, age: Duration| {
        let before = heard().await;
        let short = json!({"available": 0, "asOf": (jiff::Timestamp::now() - age).to_string(), "nextReleaseAt": null});
        let notice =
            json!({"from": 1, "notices": [{"resource": resource, "version": version, "short": short}]});
        publish(&redis, &channel, &notice.to_string()).await;
        until_within(PATIENCE, "the hint has arrived", async || heard().await > before).await;
    };
    let mut connection = server.connect().await;
    // A fresh hint is used, which shows that hints arrive at all.
    until_within(PATIENCE, "a fresh hint is used", async || {
        tell("cold", 1_000, Duration::ZERO).await;
        let mut connection = server.connect().await;
        let key = fastrand::u64(..).to_string();
        let answer = reserve_on(&mut connection, &key, &json!({"resourceId": "cold", "quantity": 1})).await;
        if answer.status == 200 {
            let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
            server.act("release", token_of(&json)).await;
        }
        answer.status == 409
    })
    .await;
    for round in 0..20 {
        // Either the finding is too old, or its version is lower than that of this process's last release.
        if round % 2 == 0 {
            tell("hot", 1_000_000 + round, Duration::from_secs(1)).await;
        } else {
            tell("hot", 1, Duration::ZERO).await;
        }
        let answer = reserve_on(&mut connection, &format!("round-{round}"), &one("hot")).await;
        assert_eq!(answer.status, 200, "round {round}");
        let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
        server.act("release", token_of(&json)).await;
    }
    books.assert_consistent().await;
}

/// Other messages on the channel are ignored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_messages_are_ignored() {
    let (books, (redis, _gate)) = (Books::mysql().await, redis().await);
    let server = server(&books, &redis.url(), &[]).await;
    server.stock("hot", 100).await;
    let channel = channel(&redis).await;
    for text in
        ["", "nonsense", "{}", "{\"from\":1,\"notices\":[{\"resource\":\"\",\"version\":-1}]}", "\u{0}"]
    {
        publish(&redis, &channel, text).await;
    }
    // Messages arrive in order: when the last one is learnt, the others have been read.
    let readable = json!({"from": 1, "notices": [{"resource": "cold", "version": 1}]}).to_string();
    let heard = async || server.metric("bespeak_redis_gate_messages_total").await;
    assert!(heard().await < 0.5, "malformed messages must not count");
    publish(&redis, &channel, &readable).await;
    until_within(PATIENCE, "a well-formed hint is learnt", async || heard().await > 0.5).await;
    server.hold("key", "hot").await;
    assert!(server.logged("ERROR").is_empty());
}

/// The name of the channel; waits until a server has subscribed to it.
async fn channel(redis: &Redis) -> String {
    let found = std::sync::Mutex::new(String::new());
    until_within(PATIENCE, "a server has subscribed", async || {
        let answer = ask(redis, &["PUBSUB", "CHANNELS"]).await;
        let channel = answer.lines().find(|line| line.contains(":gate:")).unwrap_or_default();
        channel.clone_into(&mut found.lock().expect("no panic"));
        !channel.is_empty()
    })
    .await;
    found.into_inner().expect("no panic")
}

async fn publish(redis: &Redis, channel: &str, text: &str) {
    let receivers = ask(redis, &["PUBLISH", channel, text]).await;
    assert_eq!(receivers, ":1", "heard by the server");
}

/// Sends a command with arbitrary bytes, and returns the first answer.
async fn ask(redis: &Redis, words: &[&str]) -> String {
    let mut stream = tokio::net::TcpStream::connect(redis.address()).await.expect("connected");
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(command.as_bytes()).await.expect("sent");
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).await.expect("answered");
    String::from_utf8_lossy(&answer[..length]).trim().to_owned()
}
