//! The sold-out channel: passes on which resources a process found to be sold out or restocked.
//!
//! It uses PUBLISH and SUBSCRIBE, because a hint is worth something for only 50 ms and need not be stored. Hints that
//! are lost, late, repeated or reordered do no harm, since `dispatch/sold_out/` judges each by its version and by the
//! database's clock. No request waits for the channel: after COMMIT, hints go into a bounded queue that a task
//! publishes, and hints that do not fit are dropped.
//!
//! Never: a refusal. The lanes refuse, after they have looked up the idempotency key.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use redis::RedisResult;
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};

use super::{RedisNode, message};
use crate::{
    dispatch::{SoldOutMemory, StockHint},
    redis_client,
    supervision::{Ends, Supervisor},
    telemetry::{self, RedisCall, SoldOutMessage},
};

/// The most hints that wait to be published.
const QUEUE_MAX: usize = 1_024;
/// The most hints in one message.
const HINTS_MAX: usize = 256;
/// The pause before a lost subscription is renewed.
const RESUBSCRIBE_AFTER: Duration = Duration::from_secs(1);
/// The interval of pings on a subscription: after a failover it may be connected to a node that publishes nothing any
/// more.
const PING_EVERY: Duration = Duration::from_secs(5);
/// The time-out for an answer on a subscription.
const TIMEOUT: Duration = Duration::from_secs(2);

/// This process's end of the channel.
pub(crate) struct SoldOutChannel {
    node: Arc<RedisNode>,
    channel: String,
    /// The number that identifies this process in messages.
    process: u64,
    sold_out: Arc<SoldOutMemory>,
}

impl SoldOutChannel {
    /// Uses this Redis channel, which exactly the processes of one database share.
    pub(crate) fn new(node: Arc<RedisNode>, channel: String, sold_out: Arc<SoldOutMemory>) -> Self {
        Self { node, channel, process: fastrand::u64(..), sold_out }
    }

    /// Starts to publish and to receive hints, until the process shuts down.
    pub(crate) fn start(self, supervisor: &Supervisor) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        self.sold_out.announce_to(sender);
        self.node.connect_early();
        let channel = Arc::new(self);
        let until_shutdown = || supervisor.stopping();
        let publishing = until_shutdown().run_until_cancelled_owned(channel.clone().publish(queue));
        let receiving = until_shutdown().run_until_cancelled_owned(channel.receive());
        supervisor.spawn("sold_out_publisher", Ends::AtShutdown, publishing.map(drop));
        supervisor.spawn("sold_out_receiver", Ends::AtShutdown, receiving.map(drop));
    }

    async fn publish(self: Arc<Self>, mut queue: mpsc::Receiver<StockHint>) {
        let mut hints = Vec::with_capacity(HINTS_MAX);
        while queue.recv_many(&mut hints, HINTS_MAX).await > 0 {
            let text = message::encode(self.process, std::mem::take(&mut hints));
            let channel = &self.channel;
            let publish = async move |mut connection| {
                redis::cmd("PUBLISH").arg(channel).arg(text).query_async::<u64>(&mut connection).await
            };
            if self.node.call(RedisCall::Publish, publish).await.is_some() {
                telemetry::count_sold_out_message(SoldOutMessage::Published);
            }
        }
    }

    /// Receives hints, and subscribes again whenever the subscription ends.
    async fn receive(self: Arc<Self>) {
        let mut logged = false;
        loop {
            let ended = self.listen().await;
            // Log an outage once. A subscription that worked and then ended is no news: the node logs what is wrong
            // with Redis.
            if let (Err(error), false) = (&ended, logged) {
                logged = true;
                tracing::warn!(
                    %error,
                    "the sold-out channel cannot be subscribed to; hints of other processes are missing"
                );
            } else if ended.is_ok() {
                logged = false;
            }
            tokio::time::sleep(RESUBSCRIBE_AFTER).await;
        }
    }

    /// Receives hints until the subscription ends.
    async fn listen(&self) -> RedisResult<()> {
        let silent = |_| redis::RedisError::from((redis::ErrorKind::Io, "no answer in time"));
        let client = redis_client::open(self.node.url(), PING_EVERY)?;
        let mut subscription = timeout(TIMEOUT, client.get_async_pubsub()).await.map_err(silent)??;
        timeout(TIMEOUT, subscription.subscribe(&self.channel)).await.map_err(silent)??;
        let (mut sink, mut messages) = subscription.split();
        let mut ticks = interval(PING_EVERY);
        ticks.tick().await;
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => {
                        for hint in message::decode(self.process, message.get_payload_bytes()) {
                            self.sold_out.learn(hint);
                        }
                    }
                    None => return Ok(()),
                },
                _ = ticks.tick() => {
                    if timeout(TIMEOUT, sink.ping::<redis::Value>()).await.map_err(silent)?.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
