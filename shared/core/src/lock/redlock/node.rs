//! One Redis node: a connection that comes back by itself, and a time-out on everything.
//!
//! Never: a password in what it says. What fails is said in words, since what matters is how many failed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use redis::{
    RedisResult, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::{sync::OnceCell, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    super::LockName,
    scripts::{COUNTER_KEPT_MS, END, RAISE, TAKE},
};
use crate::redis_client;

/// How often a question is asked whose connection breaks; each on a connection of its own.
const TRIES: usize = 3;
/// How long what was sent may stay unacknowledged before a connection counts as broken.
const UNHEARD_FOR: Duration = Duration::from_secs(2);

pub(super) struct LockNode {
    url: String,
    patience: Duration,
    connection: OnceCell<ConnectionManager>,
    turns: Turns,
}

/// The last question of each holder that was not answered yet. What is said of a lock must reach the node in the order in
/// which it was said: a lock that was given back before the node heard that it was taken would stay taken.
#[derive(Default)]
struct Turns(Mutex<HashMap<Uuid, CancellationToken>>);

/// A question's place behind the last one of its holder; it is over when this is dropped, however that comes about.
struct Turn {
    node: Arc<LockNode>,
    holder: Uuid,
    before: Option<CancellationToken>,
    over: CancellationToken,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.over.cancel();
        let mut last = self.node.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Unless another came behind it.
        if last.get(&self.holder).is_some_and(CancellationToken::is_cancelled) {
            last.remove(&self.holder);
        }
    }
}

/// What every node is asked alike: yes is a number above 0.
#[derive(Clone, Debug)]
pub(super) struct Question {
    script: &'static str,
    name: LockName,
    holder: Uuid,
    /// Milliseconds, or a number to raise the counter to.
    number: u64,
}

impl Question {
    /// Takes the lock; the answer is the number of the grant on this node.
    pub(super) fn take(name: &LockName, holder: Uuid, lease: Duration) -> Self {
        Self { script: TAKE, name: name.clone(), holder, number: millis(lease).max(1) }
    }

    /// Raises the counter.
    pub(super) fn raise(name: &LockName, holder: Uuid, number: u64) -> Self {
        Self { script: RAISE, name: name.clone(), holder, number }
    }

    /// Extends the lock, or releases it where nothing of it is to stay.
    pub(super) fn end(name: &LockName, holder: Uuid, ends_in: Duration) -> Self {
        Self { script: END, name: name.clone(), holder, number: millis(ends_in) }
    }
}

/// Whole milliseconds, rounded up, which is all that Redis ends keys by.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl LockNode {
    pub(super) fn new(url: String, patience: Duration) -> Self {
        Self { url, patience, connection: OnceCell::new(), turns: Turns::default() }
    }

    /// Asks, once all is over that its holder asked before this was called; 0 is no.
    pub(super) fn ask(
        self: &Arc<Self>,
        question: Question,
    ) -> impl Future<Output = Result<u64, String>> + Send + use<> {
        let (holder, over) = (question.holder, CancellationToken::new());
        let mut last = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.insert(holder, over.clone());
        drop(last);
        let turn = Turn { node: self.clone(), holder, before, over };
        async move {
            if let Some(before) = &turn.before {
                before.cancelled().await;
            }
            turn.node.ask_now(&question).await
        }
    }

    async fn ask_now(&self, question: &Question) -> Result<u64, String> {
        let asked = async {
            let mut tried = 1;
            loop {
                match self.run(question).await {
                    // A connection that broke while nobody used it says so only to whoever uses it next; and the attempt to
                    // come back that others made meanwhile may have been too early.
                    Err(error) if tried < TRIES && error.is_io_error() && !error.is_timeout() => tried += 1,
                    answered => return answered,
                }
            }
        };
        match timeout(self.patience, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("{}: {error}", self.place())),
            Err(_) => Err(format!("{}: no answer within {} ms", self.place(), self.patience.as_millis())),
        }
    }

    async fn run(&self, question: &Question) -> RedisResult<u64> {
        let connect = async || {
            let config = ConnectionManagerConfig::new()
                // Whoever comes next tries again; nobody waits for more than one attempt.
                .set_number_of_retries(0)
                .set_connection_timeout(Some(self.patience))
                .set_response_timeout(Some(self.patience));
            ConnectionManager::new_lazy_with_config(redis_client::open(&self.url, UNHEARD_FOR)?, config)
        };
        let mut connection = self.connection.get_or_try_init(connect).await?.clone();
        let Question { script, name, holder, number } = question;
        // In one slot, for whoever puts a node behind a cluster's proxy.
        let lock = format!("bespeak:lock:{{{name}}}");
        let counter = format!("{lock}:fencing");
        let script = Script::new(script);
        let mut call = script.key(lock);
        call.key(counter).arg(holder.to_string()).arg(*number).arg(COUNTER_KEPT_MS);
        call.invoke_async(&mut connection).await
    }

    /// Where it is, without its password.
    fn place(&self) -> String {
        let parsed = url::Url::parse(&self.url).ok();
        let place =
            parsed.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port().unwrap_or(6379))));
        place.unwrap_or_else(|| "a node without a host".to_owned())
    }
}
