//! Independent Redis nodes of a test's own.

use std::{sync::Arc, time::Duration};

use bespeak::lock::{DistributedLock, Redlock, RedlockOptions};
use bespeak_services::{Redis, Switch};

/// Three nodes, each behind a gate.
pub struct Nodes {
    /// The nodes.
    pub nodes: Vec<Redis>,
    /// What stands before each.
    pub gates: Vec<Switch>,
}

impl Nodes {
    /// Starts three, with all in memory.
    ///
    /// # Panics
    /// There is no Redis; says what to install.
    pub async fn start() -> Self {
        let (mut nodes, mut gates) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let started = Redis::start_own_behind_gate(&[]).await;
            let (node, gate) = started.unwrap_or_else(|missing| panic!("{missing}"));
            nodes.push(node);
            gates.push(gate);
        }
        Self { nodes, gates }
    }

    /// What `BESPEAK_REDIS_URLS` names them by.
    pub fn urls(&self) -> String {
        self.nodes.iter().map(Redis::url).collect::<Vec<_>>().join(",")
    }

    /// A lock on a majority of them, as a process of its own would have it, each node waited for so long.
    pub fn lock(&self, node_timeout: Duration) -> Arc<dyn DistributedLock> {
        redlock(self.nodes.iter().map(Redis::url).collect(), node_timeout)
    }

    /// Removes all that all of them know.
    pub async fn flush(&self) {
        for node in &self.nodes {
            ask(node, &["FLUSHALL"]).await;
        }
    }
}

/// A lock on a majority of nodes.
pub fn redlock(urls: Vec<String>, node_timeout: Duration) -> Arc<dyn DistributedLock> {
    Arc::new(Redlock::new(RedlockOptions { urls, node_timeout }))
}

/// Sends a command straight to a node and waits for its answer, whatever it is.
///
/// # Panics
/// The node does not answer.
pub async fn ask(node: &Redis, words: &[&str]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(node.address()).await.expect("connected");
    stream.write_all(format!("{}\r\n", words.join(" ")).as_bytes()).await.expect("sent");
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).await.expect("answered");
    String::from_utf8_lossy(&answer[..length]).trim().to_owned()
}
