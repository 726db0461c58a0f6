//! One Redis node of a Redlock: a connection that is restored by itself, a time-out on every call, and the order of
//! calls.
//!
//! Errors are texts, because callers only count failed nodes and show one reason. Never: a password in an error.

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

/// The most attempts of a call whose connection breaks, each on another connection.
const ATTEMPTS_MAX: usize = 3;
/// The time after which a connection with unacknowledged data counts as broken.
const UNHEARD_FOR: Duration = Duration::from_secs(2);

pub(super) struct LockNode {
    url: String,
    timeout: Duration,
    connection: OnceCell<ConnectionManager>,
    last_calls: LastCalls,
}

/// The last unfinished call of each holder, as a token that is cancelled when the call is over.
///
/// A node must receive the calls of a holder in the order in which they were made. A caller does not wait for slow
/// nodes, so a release may be made while the node has not yet received the take; if the release arrived first, the
/// lock would be taken afterwards and stay taken for its whole lease.
#[derive(Default)]
struct LastCalls(Mutex<HashMap<Uuid, CancellationToken>>);

/// The place of a call behind the previous call of its holder. Dropping it ends the call for those behind it, however
/// the call came to its end: by an answer, a time-out, a panic, or because its task was cancelled.
struct Turn {
    node: Arc<LockNode>,
    holder: Uuid,
    previous: Option<CancellationToken>,
    over: CancellationToken,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.over.cancel();
        let mut last = self.node.last_calls.0.lock().unwrap_or_else(PoisonError::into_inner);
        // If the entry is not cancelled, it belongs to a later call of this holder.
        if last.get(&self.holder).is_some_and(CancellationToken::is_cancelled) {
            last.remove(&self.holder);
        }
    }
}

/// A call that all nodes receive alike. The answer is a number; 0 means no.
#[derive(Clone, Debug)]
pub(super) struct LockCall {
    script: &'static str,
    name: LockName,
    holder: Uuid,
    /// Milliseconds, or the number to raise the counter to.
    number: u64,
}

impl LockCall {
    /// Takes the lock. The answer is the number of the grant on this node.
    pub(super) fn take(name: &LockName, holder: Uuid, lease: Duration) -> Self {
        Self { script: TAKE, name: name.clone(), holder, number: millis(lease).max(1) }
    }

    /// Raises the counter to `number`.
    pub(super) fn raise(name: &LockName, holder: Uuid, number: u64) -> Self {
        Self { script: RAISE, name: name.clone(), holder, number }
    }

    /// Lets the lock expire in `ends_in` from now: an extension, or a release if that is zero.
    pub(super) fn end(name: &LockName, holder: Uuid, ends_in: Duration) -> Self {
        Self { script: END, name: name.clone(), holder, number: millis(ends_in) }
    }
}

/// Whole milliseconds, rounded up, because Redis expires keys to the millisecond.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl LockNode {
    pub(super) fn new(url: String, timeout: Duration) -> Self {
        Self { url, timeout, connection: OnceCell::new(), last_calls: LastCalls::default() }
    }

    /// Makes a call after all earlier calls of its holder are over. The order is that of the calls of this function,
    /// not of the first polls of the futures that it returns, so it is not an `async fn`.
    pub(super) fn call(
        self: &Arc<Self>,
        call: LockCall,
    ) -> impl Future<Output = Result<u64, String>> + Send + use<> {
        let (holder, over) = (call.holder, CancellationToken::new());
        let mut last = self.last_calls.0.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = last.insert(holder, over.clone());
        drop(last);
        let turn = Turn { node: self.clone(), holder, previous, over };
        async move {
            if let Some(previous) = &turn.previous {
                previous.cancelled().await;
            }
            turn.node.call_now(&call).await
        }
    }

    async fn call_now(&self, call: &LockCall) -> Result<u64, String> {
        let attempts = async {
            let mut attempt = 1;
            loop {
                match self.run(call).await {
                    // A connection that broke while it was idle reports that only to the next call; and the
                    // reconnection that another call started meanwhile may have been too early. The scripts may be
                    // repeated.
                    Err(error) if attempt < ATTEMPTS_MAX && error.is_io_error() && !error.is_timeout() => {
                        attempt += 1;
                    }
                    result => return result,
                }
            }
        };
        match timeout(self.timeout, attempts).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("{}: {error}", self.address())),
            Err(_) => Err(format!("{}: no answer within {} ms", self.address(), self.timeout.as_millis())),
        }
    }

    async fn run(&self, call: &LockCall) -> RedisResult<u64> {
        let connect = async || {
            let config = ConnectionManagerConfig::new()
                // The next call reconnects again; no call waits for more than one attempt.
                .set_number_of_retries(0)
                .set_connection_timeout(Some(self.timeout))
                .set_response_timeout(Some(self.timeout));
            ConnectionManager::new_lazy_with_config(redis_client::open(&self.url, UNHEARD_FOR)?, config)
        };
        let mut connection = self.connection.get_or_try_init(connect).await?.clone();
        let LockCall { script, name, holder, number } = call;
        // The braces put both keys into one slot, for a node behind the proxy of a cluster.
        let lock = format!("bespeak:lock:{{{name}}}");
        let counter = format!("{lock}:fencing");
        let script = Script::new(script);
        let mut invocation = script.key(lock);
        invocation.key(counter).arg(holder.to_string()).arg(*number).arg(COUNTER_KEPT_MS);
        invocation.invoke_async(&mut connection).await
    }

    /// The host and the port, without the password.
    fn address(&self) -> String {
        let parsed = url::Url::parse(&self.url).ok();
        let address =
            parsed.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port().unwrap_or(6379))));
        address.unwrap_or_else(|| "a node without a host".to_owned())
    }
}
