//! Independent Redis nodes that belong to one test.

use std::{sync::Arc, time::Duration};

use bespeak::lock::{DistributedLock, Redlock, RedlockOptions};
use bespeak_services::{Redis, Switch};

/// Three nodes, each behind a switch.
pub struct Nodes {
    /// The three servers.
    pub nodes: Vec<Redis>,
    /// The switch in front of each node.
    pub switches: Vec<Switch>,
}

impl Nodes {
    /// Starts three nodes that keep their data in memory only.
    ///
    /// # Panics
    /// Redis is not installed; the message says what to install.
    pub async fn start() -> Self {
        let (mut nodes, mut switches) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let started = Redis::start_own_behind_switch(&[]).await;
            let (node, switch) = started.unwrap_or_else(|missing| panic!("{missing}"));
            nodes.push(node);
            switches.push(switch);
        }
        Self { nodes, switches }
    }

    /// The value for `BESPEAK_REDIS_URLS`.
    pub fn urls(&self) -> String {
        self.nodes.iter().map(Redis::url).collect::<Vec<_>>().join(",")
    }

    /// A lock on a majority of the nodes, as another process would have it, with a timeout for each node.
    pub fn lock(&self, node_timeout: Duration) -> Arc<dyn DistributedLock> {
        redlock(self.nodes.iter().map(Redis::url).collect(), node_timeout)
    }

    /// Empties all nodes.
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

/// Sends a command directly to a node and returns its answer.
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
