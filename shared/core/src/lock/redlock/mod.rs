//! Redlock: a lock that is held by whoever holds its key on a majority of independent Redis nodes, as "Distributed Locks with
//! Redis" describes it (<https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/>).
//!
//! Taken with `SET NX PX` of a value that was drawn for this grant alone, and only if a majority said so within the lease, less
//! what that took and an allowance for drift; released and extended by scripts that compare the value first. Each node
//! has its own time-out, and nobody waits for more nodes than decide; but each hears what a holder says in order, so that
//! what is given back is not taken afterwards on a node that was late.
//!
//! *Guaranteed*, as long as nodes forget nothing and clocks, theirs and ours, run at about the same speed: one holder at a
//! time; as many nodes may be away as leave a majority. *Not guaranteed*: that the holder still holds it when it acts, as of any
//! lock that ends by itself. And two may be granted the same lock where a node restarts without what it knew (the Redis
//! documentation asks to delay restarts by the longest lease, or to persist with `appendfsync always`), is emptied
//! (`FLUSHALL`), fails over to a replica that had not heard of it, or has a clock that jumps: Redis ends keys by wall-clock time.
//! Kleppmann calls it "neither fish nor fowl" for these assumptions
//! (<https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html>).
//!
//! *Fencing.* The description has none, and an `INCR` on each node is none: majorities differ, and a counter that was 5 on one
//! node may be 1 on the next two. Here each node counts per name as it grants; a grant's number is the highest that
//! its majority told, and it counts only once a majority *holds* that number, so that the next majority, which shares a node
//! with this one, counts on from there. Most often all nodes tell the same and nothing more is to be done; else it costs a
//! second round. A node raises its counter only while it still knows the grant, so no number is raised behind the next holder's
//! back. Nodes that know no counter begin at their clock in microseconds, so numbers grow also where all were emptied.
//!
//! Next: `node.rs` for one node, `scripts.rs` for what it runs.

mod node;
mod scripts;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::mpsc;
use uuid::Uuid;

use self::node::{LockNode, Question};
use super::{DistributedLock, Grant, LockError, LockKind, LockName, valid_until};

/// Which nodes, and how patiently they are asked.
#[derive(Clone)]
pub struct RedlockOptions {
    /// Independent nodes: no replica of another. An odd number, since a fourth adds nothing that three do not have.
    pub urls: Vec<String>,
    /// How long a node is waited for, a connection included. Much shorter than any lease.
    pub node_timeout: Duration,
}

/// A lock on a majority of Redis nodes.
#[derive(Clone)]
pub struct Redlock {
    nodes: Arc<[Arc<LockNode>]>,
}

/// What a round of questions came to.
#[derive(Debug, Default)]
struct Round {
    /// What those nodes said that said yes.
    yes: Vec<u64>,
    no: usize,
    /// What one of those said that failed.
    failed: Option<String>,
}

impl Redlock {
    /// Connects to each node when it is first asked.
    pub fn new(options: RedlockOptions) -> Self {
        let RedlockOptions { urls, node_timeout } = options;
        let node = |url: String| Arc::new(LockNode::new(url, node_timeout));
        Self { nodes: urls.into_iter().map(node).collect() }
    }

    fn quorum(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// Asks all nodes at once, each in a task of its own, so that whoever is not waited for is told all the same; until a
    /// majority has said yes, or cannot any more and has answered.
    async fn ask(&self, question: Question) -> Round {
        let (sender, mut answers) = mpsc::channel(self.nodes.len().max(1));
        for node in self.nodes.iter() {
            let (asked, sender) = (node.ask(question.clone()), sender.clone());
            // A round that is decided listens to nobody.
            tokio::spawn(async move { sender.send(asked.await).await });
        }
        drop(sender);
        let mut round = Round::default();
        let mut open = self.nodes.len();
        // One that said no and one that failed leave it to the third whether others hold it, or nobody can say.
        let (mut granted, mut refused) = (false, false);
        while open > 0 && !granted && !refused {
            let Some(answer) = answers.recv().await else { break };
            open -= 1;
            match answer {
                Ok(0) => round.no += 1,
                Ok(said) => round.yes.push(said),
                Err(reason) => round.failed = Some(reason),
            }
            granted = round.yes.len() >= self.quorum();
            let answered = round.yes.len() + round.no;
            refused = round.yes.len() + open < self.quorum() && answered >= self.quorum();
        }
        round
    }

    /// A majority said yes, or else said no: anything else is that nobody can say.
    fn decided(&self, round: &Round) -> Result<bool, LockError> {
        if round.yes.len() >= self.quorum() {
            return Ok(true);
        }
        let answered = round.yes.len() + round.no;
        match &round.failed {
            Some(reason) if answered < self.quorum() => Err(LockError::NoQuorum {
                answered,
                nodes: self.nodes.len(),
                needed: self.quorum(),
                reason: reason.clone(),
            }),
            _ => Ok(false),
        }
    }

    /// Takes back what a grant that came to nothing may have left on some nodes; in the background, since nobody need know.
    fn take_back(&self, name: &LockName, holder: Uuid) {
        for node in self.nodes.iter() {
            tokio::spawn(node.ask(Question::end(name, holder, Duration::ZERO)));
        }
    }

    /// The number that a majority holds: the highest that was told, once so many know it.
    async fn fence(&self, name: &LockName, holder: Uuid, told: &[u64]) -> Result<Option<u64>, LockError> {
        let highest = told.iter().copied().max().unwrap_or(0);
        if told.iter().filter(|number| **number == highest).count() >= self.quorum() {
            return Ok(Some(highest));
        }
        let raised = self.ask(Question::raise(name, holder, highest)).await;
        Ok(self.decided(&raised)?.then_some(highest))
    }
}

#[async_trait]
impl DistributedLock for Redlock {
    fn kind(&self) -> LockKind {
        LockKind::Redlock
    }

    async fn try_acquire(&self, name: &LockName, lease: Duration) -> Result<Option<Grant>, LockError> {
        let (asked, holder) = (Instant::now(), Uuid::new_v4());
        let round = self.ask(Question::take(name, holder, lease)).await;
        let fencing = match self.decided(&round) {
            Ok(true) => self.fence(name, holder, &round.yes).await,
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        let grant = fencing.map(|fencing| {
            fencing.map(|fencing| Grant {
                name: name.clone(),
                holder,
                fencing,
                granted: Instant::now(),
                valid_until: valid_until(asked, lease),
            })
        });
        match grant {
            Ok(Some(grant)) if grant.is_valid() => Ok(Some(grant)),
            Ok(Some(_)) => {
                self.take_back(name, holder);
                Err(LockError::Lapsed { name: name.clone() })
            }
            other => {
                self.take_back(name, holder);
                other
            }
        }
    }

    async fn extend(&self, grant: &mut Grant, lease: Duration) -> Result<bool, LockError> {
        let asked = Instant::now();
        let round = self.ask(Question::end(&grant.name, grant.holder, lease)).await;
        let held = self.decided(&round)?;
        grant.valid_until = if held { valid_until(asked, lease) } else { asked };
        // What took longer than it lasts was not extended.
        Ok(held && grant.is_valid())
    }

    async fn release(&self, grant: Grant, at_least: Duration) -> Result<bool, LockError> {
        let owed = grant.owed(at_least);
        let round = self.ask(Question::end(&grant.name, grant.holder, owed)).await;
        self.decided(&round)
    }
}
