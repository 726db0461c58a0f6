//! `bespeak serve` as a process that a test can kill, freeze and read the log of.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bespeak_lab::load::{Answer, Connection, Target};
use http::Method;
use serde_json::Value;

use crate::{Books, Client, binary, contract, kafka};

/// A running server; it is killed when dropped.
pub struct Server {
    child: Child,
    /// The base URL of the server.
    pub url: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server on a free port, on these books.
    pub async fn start(books: &Books, settings: &[(&str, &str)]) -> Self {
        let mut command = binary::clean(&["serve"]);
        command.env("BESPEAK_DATABASE_URL", books.url()).envs(settings.iter().copied());
        Self::spawn(command).await
    }

    /// Starts a server of the previous release on a free port, on these books.
    pub async fn start_previous(books: &Books) -> Self {
        let program = tokio::task::spawn_blocking(crate::previous::path).await.expect("it can be built");
        let mut command = binary::clean_command(Command::new(program));
        command.arg("serve").env("BESPEAK_DATABASE_URL", books.url());
        Self::spawn(command).await
    }

    /// Starts a server with a limit on the size of its files, in KiB, like a disk that is nearly full. The limit can
    /// be lifted while the server runs.
    pub async fn start_with_little_disk(books: &Books, kib: u64) -> Self {
        let mut command = Command::new("sh");
        // The signal that the limit raises is ignored, so that the write fails as on a full disk.
        let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$0\" serve", kib * 2);
        command.arg("-c").arg(script).arg(binary::path()).env("BESPEAK_DATABASE_URL", books.url());
        Self::spawn(command).await
    }

    /// Starts a server whose clock is `ahead` of that of the machine.
    pub async fn start_with_wrong_clock(books: &Books, ahead: Duration) -> Self {
        let mut command = with_libfaketime(books);
        command.env("FAKETIME", format!("+{}s", ahead.as_secs()));
        Self::spawn(command).await
    }

    /// Starts a server whose clock is behind that of the machine.
    pub async fn start_with_late_clock(books: &Books, behind: Duration) -> Self {
        let mut command = with_libfaketime(books);
        command.env("FAKETIME", format!("-{}s", behind.as_secs()));
        Self::spawn(command).await
    }

    /// Starts a server whose clock is ahead of that of the machine by what a file says at each moment, such as `+60s`.
    pub async fn start_with_clock_of(books: &Books, file: &std::path::Path) -> Self {
        let mut command = with_libfaketime(books);
        command.env("FAKETIME_TIMESTAMP_FILE", file).env("FAKETIME_NO_CACHE", "1");
        Self::spawn(command).await
    }

    async fn spawn(mut command: Command) -> Self {
        kafka::set_group(&mut command);
        command
            .env("BESPEAK_LISTEN", "127.0.0.1:0")
            .env("BESPEAK_LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("bespeak serve can be started");
        let stderr = child.stderr.take().expect("piped");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("no panic under the lock").push(line);
            }
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        loop {
            let address = log.lock().expect("no panic under the lock").iter().find_map(|line| {
                serde_json::from_str::<Value>(line).ok()?["address"].as_str().map(str::to_owned)
            });
            if let Some(address) = address {
                return Self { child, url: format!("http://{address}"), log };
            }
            let ended = child.try_wait().expect("a child");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "not listening: {ended:?}, {:?}",
                log.lock()
            );
            ticks.tick().await;
        }
    }

    /// The target for generated load.
    pub fn target(&self) -> Target {
        Target::new(&self.url).expect("a base URL")
    }

    /// Opens a connection to the server.
    pub async fn connect(&self) -> Connection {
        self.target().connect().await.expect("connected")
    }

    /// Sends a request on a connection of its own.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> (u16, Value) {
        let body = hyper::body::Bytes::copy_from_slice(body.as_bytes());
        let Answer { status, body, .. } =
            self.connect().await.send(method.clone(), path, headers, body).await.expect("answered");
        let body = serde_json::from_slice(&body).unwrap_or_default();
        contract::assert_answer(&method, path, status.as_u16(), &body);
        (status.as_u16(), body)
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines of the log with a level, such as `ERROR`.
    pub fn logged(&self, level: &str) -> Vec<String> {
        let log = self.log.lock().expect("no panic under the lock");
        log.iter().filter(|line| line.contains(&format!("\"level\":\"{level}\""))).cloned().collect()
    }

    /// Waits until the server has stopped at the failpoint that `BESPEAK_TEST_FAILPOINT` names.
    pub async fn reached(&self, point: &str) {
        let said = format!("failpoint {point} reached");
        crate::until_within(Duration::from_secs(30), &said, async || {
            self.log.lock().expect("no panic under the lock").iter().any(|line| line.contains(&said))
        })
        .await;
    }

    /// Kills the server with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Sends a signal, such as `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(sent.expect("kill can be run").success());
    }

    /// The body of a GET request as text.
    pub async fn text(&self, path: &str) -> String {
        let asked = self.connect().await.send(Method::GET, path, &[], hyper::body::Bytes::new()).await;
        String::from_utf8(asked.expect("answered").body.to_vec()).expect("text")
    }

    /// The sum of a metric over all its labels; 0 if the metric is missing.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.text("/metrics").await;
        text.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Stops the server by SIGTERM and waits; returns its exit code.
    pub async fn stop(self) -> i32 {
        self.signal("TERM");
        self.ended(Duration::from_secs(20)).await
    }

    /// Waits until the server has ended; returns its exit code.
    pub async fn ended(mut self, within: Duration) -> i32 {
        let deadline = Instant::now() + within;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "the server does not stop within {within:?}");
            ticks.tick().await;
        }
    }
}

/// `bespeak serve` on these books, with a library that changes the time which it sees.
fn with_libfaketime(books: &Books) -> Command {
    let library = ["x86_64", "aarch64"]
        .map(|arch| format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketime.so.1"))
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .expect("libfaketime is not installed: apt-get install faketime (Debian, Ubuntu)");
    let mut command = binary::clean(&["serve"]);
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("BESPEAK_DATABASE_URL", books.url());
    command
}

#[async_trait]
impl Client for Server {
    async fn request(&self, method: Method, path: &str, key: &str, body: &str) -> (u16, Value) {
        let headers = [("idempotency-key", key)];
        self.ask(method, path, if key.is_empty() { &[] } else { &headers }, body).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
