//! A lock holder that stops between reading and writing until its lease has expired, and continues after another
//! process has written: the fault that no expiring lock can prevent. The holder is a process, stopped by SIGSTOP.

use std::{path::Path, process::Stdio, time::Duration};

use bespeak::dispatch::Strategy;
use bespeak_tests::{Books, Nodes};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use super::{app, hold, stock};

/// The lease of the holder's lock. It is shorter than the time after which the database closes an idle connection, so
/// that the late write arrives.
const LEASE_MS: &str = "1000";

/// The body of the holder's process, which runs only if `BESPEAK_TEST_HOLDER` names a strategy: it holds a unit and
/// prints the result.
#[tokio::test]
async fn holder() {
    let Ok(strategy) = std::env::var("BESPEAK_TEST_HOLDER") else { return };
    let variable = |name: &str| std::env::var(name).expect("set by the parent process");
    let (url, redis) = (variable("BESPEAK_TEST_HOLDER_BOOKS"), variable("BESPEAK_TEST_HOLDER_REDIS"));
    let settings = [
        ("BESPEAK_REDIS_URLS", redis.as_str()),
        ("BESPEAK_LOCK_LEASE_MS", LEASE_MS),
        ("BESPEAK_LOCK_TIMEOUT_MS", "60000"),
    ];
    let strategy = Strategy::named(&strategy).expect("a strategy");
    let app = app(&url, strategy, &settings).await;
    let granted = hold(&app, "late", "seat").await;
    eprintln!("holder granted {}", granted.is_ok_and(|granted| granted));
}

struct Holder {
    child: Child,
    said: Lines<BufReader<ChildStderr>>,
}

impl Holder {
    fn start(strategy: Strategy, books: &str, redis: &str, until: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command
            .args(["--exact", "locks::frozen::holder", "--nocapture"])
            .env("BESPEAK_TEST_HOLDER", strategy.as_str())
            .env("BESPEAK_TEST_HOLDER_BOOKS", books)
            .env("BESPEAK_TEST_HOLDER_REDIS", redis)
            .env("BESPEAK_TEST_FAILPOINT", "batch.decided")
            .env("BESPEAK_TEST_FAILPOINT_UNTIL", until)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("started");
        let said = BufReader::new(child.stderr.take().expect("piped")).lines();
        Self { child, said }
    }

    /// Waits for a line that begins so; the rest of it.
    async fn says(&mut self, beginning: &str) -> String {
        let said = async {
            while let Some(line) = self.said.next_line().await.expect("text") {
                if let Some(rest) = line.strip_prefix(beginning) {
                    return rest.trim().to_owned();
                }
            }
            panic!("it ended without saying {beginning:?}");
        };
        tokio::time::timeout(Duration::from_secs(60), said).await.expect("said in time")
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("running").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await;
        assert!(sent.expect("kill can be run").success());
    }
}

/// Whether the frozen holder and the next holder were each granted the only unit.
async fn granted(strategy: Strategy) -> (bool, bool, Books) {
    let (nodes, books) = (Nodes::start().await, Books::mysql().await);
    if matches!(strategy, Strategy::ShedlockAlone | Strategy::RedlockAlone) {
        books.expect_damage();
    }
    let folder = tempfile::tempdir().expect("a folder");
    let until = folder.path().join("go-on");
    let (url, redis) = (books.url(), nodes.urls());
    let settings = [
        ("BESPEAK_REDIS_URLS", redis.as_str()),
        ("BESPEAK_LOCK_LEASE_MS", "60000"),
        ("BESPEAK_LOCK_TIMEOUT_MS", "60000"),
        ("BESPEAK_LOCK_NODE_TIMEOUT_MS", "2500"),
    ];
    let app = app(&url, strategy, &settings).await;
    stock(&app, "seat", 1).await;
    // Given a holder that has read that one unit is available, and is stopped before it writes
    let mut holder = Holder::start(strategy, &url, &redis, &until);
    holder.says("failpoint batch.decided reached").await;
    holder.signal("STOP").await;
    // When its lease has expired and another process takes the unit under its own lock
    let next = hold(&app, "next", "seat").await.expect("answered");
    // And the holder continues
    std::fs::write(&until, "").expect("written");
    holder.signal("CONT").await;
    let late = holder.says("holder granted").await == "true";
    (late, next, books)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_without_the_store_guard_oversells_when_its_holder_freezes() {
    for strategy in [Strategy::ShedlockAlone, Strategy::RedlockAlone] {
        // On a very slow machine the database may close the frozen holder's connection first, so there are several
        // tries.
        let mut oversold = false;
        for _ in 0..5 {
            let (late, next, books) = granted(strategy).await;
            oversold = late && next;
            assert_eq!(books.audit().await.is_clean(), !oversold, "{strategy}");
            if oversold {
                break;
            }
        }
        assert!(oversold, "{strategy}: the unit must be sold twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_guard_refuses_a_holder_that_froze() {
    for strategy in [Strategy::Shedlock, Strategy::Redlock] {
        let (late, next, books) = granted(strategy).await;
        assert!(next && !late, "{strategy}: only the next holder may get the unit");
        books.assert_consistent().await;
    }
}
