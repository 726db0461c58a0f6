//! Redlock: a lock that belongs to the process that holds its key on a majority of independent Redis nodes, as
//! "Distributed Locks with Redis" describes it
//! (<https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/>).
//!
//! A lock is taken with `SET NX PX` of a value that is drawn for this grant, and is granted only if a majority of
//! nodes agreed within the lease, less the time that took and an allowance for clock drift. Scripts that compare the
//! value first release and extend it. Each node has its own time-out, and a caller waits for no more nodes than
//! decide; but each node receives the calls of a holder in order, so that a lock that was released is not taken
//! afterwards on a slow node.
//!
//! *Guaranteed*, as long as nodes forget nothing and all clocks run at about the same speed: one holder at a time,
//! while any majority of the nodes is available. *Not guaranteed*: that the holder still holds the lock when it acts,
//! as with every lock that expires. And two processes may hold the same lock if a node restarts without its data (the
//! Redis documentation advises to delay restarts by the longest lease, or to persist with `appendfsync always`), is
//! emptied (`FLUSHALL`), fails over to a replica that had not received the key, or has a clock that jumps: Redis
//! expires keys by wall-clock time. Kleppmann calls the algorithm "neither fish nor fowl" for these assumptions
//! (<https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html>).
//!
//! *Fencing.* The description has no fencing numbers, and an `INCR` on each node gives none: majorities differ, and a
//! counter that was 5 on one node may be 1 on the next two. Here each node counts its grants per name. The number of
//! a grant is the highest that its majority returned, and it counts only once a majority *holds* that number: the
//! next majority shares a node with this one, and so counts on from there. Usually all nodes return the same number
//! and nothing remains to be done; otherwise a second round raises the counters. A node raises its counter only while
//! it holds the key of this grant, so no counter is raised under the next holder. A node without a counter starts at
//! its clock in microseconds, so numbers grow even if all nodes were emptied.
//!
//! Next: `node.rs` for one node, `scripts.rs` for the scripts that it runs.

mod node;
mod scripts;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::mpsc;
use uuid::Uuid;

use self::node::{LockCall, LockNode};
use super::{DistributedLock, Grant, LockError, LockKind, LockName, RedlockOptions, valid_until};

/// A lock on a majority of Redis nodes.
#[derive(Clone)]
pub struct Redlock {
    nodes: Arc<[Arc<LockNode>]>,
}

/// The votes of the nodes on a call.
#[derive(Debug, Default)]
struct Votes {
    /// The numbers that agreeing nodes returned.
    yes: Vec<u64>,
    /// The nodes that refused.
    no: usize,
    /// The error of a node that failed, if any did.
    failed: Option<String>,
}

impl Redlock {
    /// Connects to each node with its first call.
    pub fn new(options: RedlockOptions) -> Self {
        let RedlockOptions { urls, node_timeout } = options;
        let node = |url: String| Arc::new(LockNode::new(url, node_timeout));
        Self { nodes: urls.into_iter().map(node).collect() }
    }

    fn quorum(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// Calls all nodes at once, until they have decided: a majority agreed, or no majority can agree any more and a
    /// majority has answered.
    ///
    /// Each call is a task of its own. Dropping the slower calls with this future would leave open whether their nodes
    /// received them; as tasks, they are all carried out, in the order in which this holder made them.
    async fn call_all(&self, call: LockCall) -> Votes {
        let (sender, mut answers) = mpsc::channel(self.nodes.len().max(1));
        for node in self.nodes.iter() {
            // `call` takes the holder's place in the node's order here and now, not when the task is first polled.
            let (answer, sender) = (node.call(call.clone()), sender.clone());
            // The send fails if the round is decided already.
            tokio::spawn(async move { sender.send(answer.await).await });
        }
        drop(sender);
        let mut votes = Votes::default();
        let mut open = self.nodes.len();
        let (mut granted, mut refused) = (false, false);
        while open > 0 && !granted && !refused {
            let Some(answer) = answers.recv().await else { break };
            open -= 1;
            match answer {
                Ok(0) => votes.no += 1,
                Ok(number) => votes.yes.push(number),
                Err(reason) => votes.failed = Some(reason),
            }
            granted = votes.yes.len() >= self.quorum();
            let answered = votes.yes.len() + votes.no;
            // Of three nodes, one refusal and one failure make a majority impossible, but leave open whether others
            // hold the lock or the nodes are down. The answer of the third node decides.
            refused = votes.yes.len() + open < self.quorum() && answered >= self.quorum();
        }
        votes
    }

    /// Whether a majority agreed. It is an error if fewer than a majority answered at all, for then the state is
    /// unknown.
    fn decision(&self, votes: &Votes) -> Result<bool, LockError> {
        if votes.yes.len() >= self.quorum() {
            return Ok(true);
        }
        let answered = votes.yes.len() + votes.no;
        match &votes.failed {
            Some(reason) if answered < self.quorum() => Err(LockError::NoQuorum {
                answered,
                nodes: self.nodes.len(),
                needed: self.quorum(),
                reason: reason.clone(),
            }),
            _ => Ok(false),
        }
    }

    /// Removes the keys that a failed attempt may have left on some nodes. Runs in the background, since no caller
    /// needs the result: keys that remain expire with their lease.
    fn undo(&self, name: &LockName, holder: Uuid) {
        for node in self.nodes.iter() {
            tokio::spawn(node.call(LockCall::end(name, holder, Duration::ZERO)));
        }
    }

    /// The fencing number of a grant: the highest that a node returned, once a majority holds it. `None` if the lock
    /// was lost meanwhile.
    async fn agree_on_number(
        &self,
        name: &LockName,
        holder: Uuid,
        numbers: &[u64],
    ) -> Result<Option<u64>, LockError> {
        let highest = numbers.iter().copied().max().unwrap_or(0);
        if numbers.iter().filter(|number| **number == highest).count() >= self.quorum() {
            return Ok(Some(highest));
        }
        let raised = self.call_all(LockCall::raise(name, holder, highest)).await;
        Ok(self.decision(&raised)?.then_some(highest))
    }
}

#[async_trait]
impl DistributedLock for Redlock {
    fn kind(&self) -> LockKind {
        LockKind::Redlock
    }

    async fn try_acquire(&self, name: &LockName, lease: Duration) -> Result<Option<Grant>, LockError> {
        // The lease is measured from before the first node receives the call, because a node starts it no earlier.
        let (began, holder) = (Instant::now(), Uuid::new_v4());
        let votes = self.call_all(LockCall::take(name, holder, lease)).await;
        let fencing = match self.decision(&votes) {
            Ok(true) => self.agree_on_number(name, holder, &votes.yes).await,
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        let grant = fencing.map(|fencing| {
            fencing.map(|fencing| Grant {
                name: name.clone(),
                holder,
                fencing,
                granted: Instant::now(),
                valid_until: valid_until(began, lease),
            })
        });
        match grant {
            Ok(Some(grant)) if grant.is_valid() => Ok(Some(grant)),
            Ok(Some(_)) => {
                self.undo(name, holder);
                Err(LockError::Lapsed { name: name.clone() })
            }
            other => {
                self.undo(name, holder);
                other
            }
        }
    }

    async fn extend(&self, grant: &mut Grant, lease: Duration) -> Result<bool, LockError> {
        let began = Instant::now();
        let votes = self.call_all(LockCall::end(&grant.name, grant.holder, lease)).await;
        let held = self.decision(&votes)?;
        grant.valid_until = if held { valid_until(began, lease) } else { began };
        // An extension that took longer than the lease is none.
        Ok(held && grant.is_valid())
    }

    async fn release(&self, grant: Grant, at_least: Duration) -> Result<bool, LockError> {
        let owed = grant.owed(at_least);
        let votes = self.call_all(LockCall::end(&grant.name, grant.holder, owed)).await;
        self.decision(&votes)
    }
}
