//! Several servers on one database; some of them are killed or frozen.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bespeak_tests::{Books, Client, Server, until, until_within};
use http::Method;
use serde_json::{Value, json};

use super::{insist, open_transactions, order};

/// Clients of one server, each asking again and again, until it is stopped or the server is gone.
struct Load {
    stopped: Arc<AtomicBool>,
    /// Key to token, of what was answered 200.
    held: Arc<Mutex<HashMap<String, String>>>,
    unanswered: Arc<Mutex<Vec<String>>>,
    answered: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// As long as a machine that is busy with other tests may take.
const PATIENCE: Duration = Duration::from_secs(60);

const WISHES: [&[&str]; 4] = [&["hot"], &["hot", "b"], &["c", "hot"], &["b", "c"]];

impl Load {
    async fn on(server: &Server, name: &str, clients: usize) -> Self {
        let load = Self {
            stopped: Arc::default(),
            held: Arc::default(),
            unanswered: Arc::default(),
            answered: Arc::default(),
            tasks: Vec::new(),
        };
        let mut tasks = Vec::new();
        for client in 0..clients {
            let mut connection = server.connect().await;
            let (stopped, held, unanswered, answered) =
                (load.stopped.clone(), load.held.clone(), load.unanswered.clone(), load.answered.clone());
            let name = name.to_owned();
            tasks.push(tokio::spawn(async move {
                for turn in 0.. {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = format!("{name}-{client}-{turn}");
                    let body = order(WISHES[(client + turn) % WISHES.len()]).to_string();
                    let headers = [("idempotency-key", key.as_str())];
                    match connection.send(Method::POST, "/api/v1/reserve", &headers, body.into()).await {
                        Ok(answer) => {
                            let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
                            match (answer.status.as_u16(), json["token"].as_str()) {
                                (200, Some(token)) => {
                                    held.lock().expect("no panic").insert(key, token.to_owned());
                                }
                                (503, _) => unanswered.lock().expect("no panic").push(key),
                                other => panic!("{key}: {other:?}"),
                            }
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_gone) => {
                            unanswered.lock().expect("no panic").push(key);
                            return;
                        }
                    }
                }
            }));
        }
        Self { tasks, ..load }
    }

    /// Stops it; what became of the requests.
    async fn ended(self) -> (HashMap<String, String>, Vec<String>) {
        self.stopped.store(true, Ordering::Relaxed);
        for task in self.tasks {
            tokio::time::timeout(Duration::from_secs(60), task)
                .await
                .expect("no stuck request")
                .expect("no panic");
        }
        let held = self.held.lock().expect("no panic").clone();
        let unanswered = self.unanswered.lock().expect("no panic").clone();
        (held, unanswered)
    }
}

fn wish_of(key: &str) -> Value {
    let mut parts = key.split('-').skip(1).map(|part| part.parse::<usize>().expect("a number"));
    let (client, turn) = (parts.next().expect("a client"), parts.next().expect("a turn"));
    order(WISHES[(client + turn) % WISHES.len()])
}

/// I1, I4, I5: one of two servers is killed under load. The other keeps serving. Each answered hold exists under its
/// token, and each unanswered request takes stock once when it is retried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_one_of_two_servers_loses_no_hold() {
    let books = Books::mysql().await;
    let (victim, other) = (Server::start(&books, &[]).await, Server::start(&books, &[]).await);
    for name in ["hot", "b", "c"] {
        other.stock(name, 1_000_000).await;
    }
    let (first, second) = (Load::on(&victim, "v", 32).await, Load::on(&other, "o", 32).await);
    until_within(PATIENCE, "both are under load", || async {
        first.answered.load(Ordering::Relaxed) > 300 && second.answered.load(Ordering::Relaxed) > 300
    })
    .await;
    victim.kill();
    let before = second.answered.load(Ordering::Relaxed);
    until_within(PATIENCE, "the other goes on", || async {
        second.answered.load(Ordering::Relaxed) > before + 300
    })
    .await;
    let (mut held, mut unanswered) = first.ended().await;
    assert!(!unanswered.is_empty(), "requests must be in flight when the server is killed");
    let (others, more) = second.ended().await;
    held.extend(others);
    unanswered.extend(more);
    books.assert_consistent().await;
    for (key, token) in held.iter().step_by(held.len() / 200 + 1) {
        assert_eq!(insist(&other.url, key, &wish_of(key)).await, (200, token.clone()), "{key}");
    }
    for key in &unanswered {
        let (status, token) = insist(&other.url, key, &wish_of(key)).await;
        assert_eq!((status, held.insert(key.clone(), token)), (200, None));
    }
    let audit = books.audit().await;
    assert!(audit.is_clean(), "{audit:#?}");
    assert_eq!(audit.reservations, held.len() as u64, "each key made one");
}

/// Two servers serve the same resource and items that overlap in different orders, while holds are committed and
/// released. No request gets stuck, nothing is oversold, and deadlocks, if any, are retried and counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_under_the_same_load_stay_consistent() {
    for strategy in ["lanes", "conditional"] {
        let books = Books::mysql().await;
        let settings = [("BESPEAK_STRATEGY", strategy)];
        let servers = [Server::start(&books, &settings).await, Server::start(&books, &settings).await];
        for name in ["hot", "b", "c"] {
            servers[0].stock(name, 40).await;
        }
        let mut tasks = Vec::new();
        for client in 0..32_usize {
            let urls = [servers[client % 2].url.clone(), servers[(client + 1) % 2].url.clone()];
            tasks.push(tokio::spawn(async move {
                for turn in 0..20 {
                    let key = format!("{client}-{turn}");
                    let wish = order(WISHES[(client + turn) % WISHES.len()]);
                    let (status, token) = insist(&urls[0], &key, &wish).await;
                    if status == 200 {
                        // The other server continues with the reservation.
                        let verbs: &[&str] = if turn % 3 == 0 { &["commit", "cancel"] } else { &["release"] };
                        for verb in verbs {
                            act(&urls[1], verb, &token).await;
                        }
                    }
                }
            }));
        }
        for task in tasks {
            tokio::time::timeout(Duration::from_secs(90), task)
                .await
                .expect("no stuck request")
                .expect("no panic");
        }
        for name in ["hot", "b", "c"] {
            let (_, resource) =
                servers[0].ask(Method::GET, &format!("/api/v1/resources/{name}"), &[], "").await;
            assert_eq!(resource["availableStock"], 40, "{strategy}: every unit was released");
        }
        books.assert_consistent().await;
        for server in servers {
            assert_eq!(server.logged("ERROR"), Vec::<String>::new());
            let retries = server.metric("bespeak_store_retries_total").await;
            println!("{strategy}: {retries} retries");
        }
    }
}

async fn act(url: &str, verb: &str, token: &str) {
    let target = bespeak_lab::load::Target::new(url).expect("a base URL");
    let path = format!("/api/v1/{verb}");
    loop {
        let mut connection = target.connect().await.expect("connected");
        let body = json!({"token": token}).to_string();
        let answer = connection.send(Method::POST, &path, &[], body.into()).await.expect("answered");
        match answer.status.as_u16() {
            503 => {}
            status => return assert_eq!(status, 200, "{verb}: {:?}", answer.body),
        }
    }
}

/// A server that is frozen inside a transaction blocks the others for at most twelve seconds. When it resumes, it
/// undoes nothing and does nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_frozen_in_a_transaction_blocks_others_briefly() {
    let books = Books::mysql().await;
    let (frozen, other) = (Server::start(&books, &[]).await, Server::start(&books, &[]).await);
    for name in ["hot", "b", "c"] {
        other.stock(name, 1_000_000).await;
    }
    let load = Load::on(&frozen, "f", 32).await;
    until_within(PATIENCE, "the server is under load", || async {
        load.answered.load(Ordering::Relaxed) > 300
    })
    .await;
    // Freezes the server until it has the hot row locked, which it has most of the time.
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "the server never holds the lock when it is frozen");
        frozen.signal("STOP");
        // A wait of a second for the row is longer than the database needs for statements in flight.
        if hot_is_locked(&books).await {
            break;
        }
        let before = load.answered.load(Ordering::Relaxed);
        frozen.signal("CONT");
        until_within(PATIENCE, "it goes on", || async {
            load.answered.load(Ordering::Relaxed) > before + 20
        })
        .await;
    }
    let since = Instant::now();
    let body = order(&["hot"]);
    let served = insist(&other.url, "other", &body);
    let (status, _) = tokio::time::timeout(Duration::from_secs(12), served)
        .await
        .expect("the other server is served in time");
    assert_eq!(status, 200);
    println!("the other was served after {:?}", since.elapsed());
    frozen.signal("CONT");
    let (held, unanswered) = load.ended().await;
    for key in &unanswered {
        assert_eq!(insist(&other.url, key, &wish_of(key)).await.0, 200);
    }
    let audit = books.audit().await;
    assert!(audit.is_clean(), "{audit:#?}");
    assert_eq!(audit.reservations, (held.len() + unanswered.len() + 1) as u64);
    until("nothing is open", || async { open_transactions(&books).await == 0 }).await;
}

async fn hot_is_locked(books: &Books) -> bool {
    let mut root = books.root().await;
    let lock = format!(
        "SET SESSION innodb_lock_wait_timeout = 1; BEGIN;
        SELECT * FROM {}.resources WHERE id = 'hot' FOR UPDATE; ROLLBACK",
        books.name()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut root).await.is_err()
}
