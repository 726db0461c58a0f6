//! The sold-out gate: what a process finds out about a resource, the others learn.
//!
//! By PUBLISH and SUBSCRIBE, because nothing need be kept: a notice is good for 50 ms. What is lost, late, twice or in
//! another order does no harm, for `lanes/sold_out.rs` judges each by version and by the database's clock. Off the way of
//! requests: a task publishes what a bounded queue holds, after COMMIT, and what does not fit is dropped.
//!
//! Never: a refusal. That is for lanes to make, once the key was looked up.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use redis::RedisResult;
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{RedisNode, message};
use crate::{
    dispatch::{SoldOut, StockHint},
    redis_client,
    telemetry::{self, GateMessage, RedisCall},
};

/// Notices that may wait to be published.
const QUEUE_MAX: usize = 1_024;
/// Notices in one message at the most.
const NOTICES_MAX: usize = 256;
/// How long after a lost subscription the next is tried.
const SUBSCRIBED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often a silent subscription is asked whether it is one still: a failover can leave it talking to nobody.
const ASKED_EVERY: Duration = Duration::from_secs(5);
/// How long a subscription may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// One process's part in it.
pub(crate) struct SoldOutChannel {
    node: Arc<RedisNode>,
    channel: String,
    /// What this process is called in messages.
    me: u64,
    sold_out: Arc<SoldOut>,
}

impl SoldOutChannel {
    /// Through this channel, which all processes of one database share and no others.
    pub(crate) fn new(node: Arc<RedisNode>, channel: String, sold_out: Arc<SoldOut>) -> Self {
        Self { node, channel, me: fastrand::u64(..), sold_out }
    }

    /// Starts to tell and to learn, until told to stop.
    pub(crate) fn start(self, tasks: &TaskTracker, stop: &CancellationToken) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        self.sold_out.tell(sender);
        self.node.look();
        let channel = Arc::new(self);
        let (publishing, learning) = (channel.clone().publish(queue), channel.learn());
        let (one, other) = (stop.clone(), stop.clone());
        tasks.spawn(async move { one.run_until_cancelled(publishing).await });
        tasks.spawn(async move { other.run_until_cancelled(learning).await });
    }

    async fn publish(self: Arc<Self>, mut queue: mpsc::Receiver<StockHint>) {
        let mut notices = Vec::with_capacity(NOTICES_MAX);
        while queue.recv_many(&mut notices, NOTICES_MAX).await > 0 {
            let text = message::encode(self.me, std::mem::take(&mut notices));
            let channel = &self.channel;
            let publish = async move |mut connection| {
                redis::cmd("PUBLISH").arg(channel).arg(text).query_async::<u64>(&mut connection).await
            };
            if self.node.ask(RedisCall::Publish, publish).await.is_some() {
                telemetry::count_gate_message(GateMessage::Published);
            }
        }
    }

    async fn learn(self: Arc<Self>) {
        let mut told = false;
        loop {
            // How it ended is the same to whoever is not told any more; what is wrong with Redis, its node logs.
            let ended = self.listen().await;
            if let (Err(error), false) = (&ended, told) {
                told = true;
                tracing::warn!(%error, "what other processes know to be sold out cannot be heard at present");
            } else if ended.is_ok() {
                told = false;
            }
            tokio::time::sleep(SUBSCRIBED_AGAIN_AFTER).await;
        }
    }

    /// Learns until the subscription ends.
    async fn listen(&self) -> RedisResult<()> {
        let silent = |_| redis::RedisError::from((redis::ErrorKind::Io, "no answer in time"));
        let client = redis_client::open(self.node.url(), ASKED_EVERY)?;
        let mut subscription = timeout(PATIENCE, client.get_async_pubsub()).await.map_err(silent)??;
        timeout(PATIENCE, subscription.subscribe(&self.channel)).await.map_err(silent)??;
        let (mut sink, mut messages) = subscription.split();
        let mut ticks = interval(ASKED_EVERY);
        ticks.tick().await;
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => {
                        for notice in message::decode(self.me, message.get_payload_bytes()) {
                            self.sold_out.learn(notice);
                        }
                    }
                    None => return Ok(()),
                },
                _ = ticks.tick() => {
                    if timeout(PATIENCE, sink.ping::<redis::Value>()).await.map_err(silent)?.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
