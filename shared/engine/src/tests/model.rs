//! Runs random sequences of commands against a model without working sets, row versions or expiry on demand: it knows
//! only who holds what until when. Everything that a customer can see must be the same in both.

use std::collections::{BTreeMap, HashSet};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use uuid::Uuid;

use super::books::Books;
use crate::{
    Status::{Cancelled, Committed, Expired, Held, Released},
    *,
};

const RESOURCES: usize = 3;
const KEYS: usize = 40;
const CASES: u32 = 1_500;

/// A command whose token is a number: the n-th reservation that was made, if it exists.
#[derive(Clone, Debug)]
enum Symbol {
    Define { resource: usize, total: u64 },
    Reserve { key: usize, items: Vec<(usize, u64)>, ttl: u64 },
    Commit(usize),
    Release(usize),
    Extend(usize, u64),
    Cancel(usize),
    Expire(usize),
}

/// Time passes, then a batch runs.
#[derive(Clone, Debug)]
struct Step {
    millis: u64,
    batch: Vec<Symbol>,
}

fn symbol() -> impl Strategy<Value = Symbol> {
    let which = 0..60_usize;
    prop_oneof![
        1 => (0..=RESOURCES, 0..12_u64).prop_map(|(resource, total)| Symbol::Define { resource, total }),
        6 => (0..KEYS, vec((0..=RESOURCES, 1..4_u64), 1..4), 1..6_u64)
            .prop_map(|(key, items, ttl)| Symbol::Reserve { key, items, ttl }),
        2 => which.clone().prop_map(Symbol::Commit),
        2 => which.clone().prop_map(Symbol::Release),
        1 => (which.clone(), 1..9_u64).prop_map(|(n, ttl)| Symbol::Extend(n, ttl)),
        2 => which.clone().prop_map(Symbol::Cancel),
        1 => which.prop_map(Symbol::Expire),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (0..3_000_u64, vec(symbol(), 1..9)).prop_map(|(millis, batch)| Step { millis, batch })
}

/// A reservation in the model. An overdue hold *is* expired.
#[derive(Clone, Debug)]
struct Known {
    token: Token,
    key: String,
    asked: (BTreeMap<usize, u64>, u64),
    status: Status,
    created_at: Timestamp,
    expires_at: Timestamp,
}

#[derive(Debug, Default)]
struct Model {
    totals: BTreeMap<usize, u64>,
    reservations: Vec<Known>,
}

impl Model {
    fn pass_time(&mut self, now: Timestamp) {
        for known in &mut self.reservations {
            if known.status == Status::Held && known.expires_at <= now {
                known.status = Status::Expired;
            }
        }
    }

    fn in_use(&self, resource: usize) -> u64 {
        self.reservations
            .iter()
            .filter(|known| known.status.takes_stock())
            .filter_map(|known| known.asked.0.get(&resource))
            .sum()
    }

    /// The expected outcome of a command: `Ok(how)` or `Err(why)`.
    fn apply(
        &mut self,
        command: &Command,
        symbol: &Symbol,
        now: Timestamp,
        life: u64,
    ) -> Result<&'static str, &'static str> {
        match (symbol, command) {
            (Symbol::Define { resource, total }, _) => {
                let in_use = self.in_use(*resource);
                match self.totals.get(resource) {
                    None => {
                        self.totals.insert(*resource, *total);
                        Ok("created")
                    }
                    Some(now) if now == total => Ok("unchanged"),
                    Some(_) if *total < in_use => Err("stock-in-use"),
                    Some(_) => {
                        self.totals.insert(*resource, *total);
                        Ok("changed")
                    }
                }
            }
            (Symbol::Reserve { key, items, ttl }, Command::Reserve(reserve)) => {
                let mut merged = BTreeMap::new();
                for (resource, units) in items {
                    *merged.entry(*resource).or_default() += units;
                }
                let key = format!("key-{key}");
                if let Some(known) = self.reservations.iter().find(|known| known.key == key) {
                    return match known.status {
                        _ if known.asked != (merged, *ttl) => Err("idempotency-key-reused"),
                        Held | Committed => Ok("replayed"),
                        Released | Expired | Cancelled => Err("reservation-ended"),
                    };
                }
                if merged.keys().any(|resource| !self.totals.contains_key(resource)) {
                    return Err("resource-not-found");
                }
                if merged
                    .iter()
                    .any(|(resource, units)| self.in_use(*resource) + units > self.totals[resource])
                {
                    return Err("out-of-stock");
                }
                self.reservations.push(Known {
                    token: reserve.token,
                    key,
                    asked: (merged, *ttl),
                    status: Status::Held,
                    created_at: now,
                    expires_at: now + reserve.ttl.duration(),
                });
                Ok("changed")
            }
            _ => self.act(command, now, life),
        }
    }

    fn act(&mut self, command: &Command, now: Timestamp, life: u64) -> Result<&'static str, &'static str> {
        let token = command.token().expect("every other command has a token");
        let Some(known) = self.reservations.iter_mut().find(|known| known.token == token) else {
            return Err("reservation-not-found");
        };
        match (command, known.status) {
            (Command::Commit(_), Held) => known.status = Committed,
            (Command::Release(_), Held) => known.status = Released,
            (Command::Cancel(_), Committed) => known.status = Cancelled,
            (Command::Extend(extend), Held) => {
                let life = jiff::SignedDuration::from_secs(i64::try_from(life).expect("small"));
                let end = (now + extend.ttl.duration()).min(known.created_at + life).max(known.expires_at);
                if end == known.expires_at {
                    return Ok("unchanged");
                }
                known.expires_at = end;
            }
            (Command::Expire(_), Held) => return Err("not-due"),
            // In the model an overdue hold is expired already, so the engine may find either state.
            (Command::Expire(_), Expired) => return Ok("expired"),
            (Command::Commit(_), Committed)
            | (Command::Release(_), Released)
            | (Command::Cancel(_), Cancelled) => {
                return Ok("unchanged");
            }
            (Command::Cancel(_), Held | Released | Expired) => return Err("not-committed"),
            (_, Committed) => return Err("already-committed"),
            (_, Released) => return Err("already-released"),
            (_, Cancelled) => return Err("already-cancelled"),
            (_, Expired) => return Err("hold-expired"),
            _ => unreachable!("{command:?} on {known:?}"),
        }
        Ok("changed")
    }
}

struct Run {
    model: Model,
    books: Books,
    limits: Limits,
    now: Timestamp,
    tokens: Vec<Token>,
}

impl Run {
    fn command(&mut self, symbol: &Symbol) -> Command {
        let id = |n: usize| ResourceId::new("id", &format!("r{n}")).expect("valid");
        let token =
            |n: &usize| self.tokens.get(*n).copied().unwrap_or(Token::from_uuid(Uuid::from_u128(*n as u128)));
        match symbol {
            Symbol::Define { resource, total } => {
                Command::Define(Define { resource_id: id(*resource), total: *total, fulfilment: None })
            }
            Symbol::Reserve { key, items, ttl } => {
                let items = items
                    .iter()
                    .map(|(n, units)| Item {
                        resource_id: id(*n),
                        quantity: Quantity::new("q", *units).expect("valid"),
                    })
                    .collect();
                let draft = ReserveDraft {
                    items: Items::new(items, &self.limits).expect("valid"),
                    ttl: Ttl::new("ttl", *ttl).expect("valid"),
                    holder: None,
                    metadata: None,
                    key: IdempotencyKey::new(&format!("key-{key}")).expect("valid"),
                };
                Command::Reserve(draft.with_token(Token::from_uuid(Uuid::now_v7())))
            }
            Symbol::Commit(n) => Command::Commit(token(n)),
            Symbol::Release(n) => Command::Release(token(n)),
            Symbol::Extend(n, ttl) => Command::Extend(Extend {
                token: token(n),
                ttl: Ttl::new("ttl", *ttl).expect("valid"),
                life_max_seconds: self.limits.life_max_seconds,
            }),
            Symbol::Cancel(n) => Command::Cancel(token(n)),
            Symbol::Expire(n) => Command::Expire(token(n)),
        }
    }

    fn step(&mut self, step: &Step) {
        self.now += std::time::Duration::from_millis(step.millis);
        self.model.pass_time(self.now);
        let mut set = self.books.working_set(self.now);
        let mut expected_edges = Vec::new();
        let mut all_refused = true;
        for symbol in &step.batch {
            let command = self.command(symbol);
            let before: Vec<_> = available(&set);
            let outcome = apply(&mut set, &command, self.now);
            let after = available(&set);
            // An edge is where a command made `available` 0, or made it leave 0.
            for (id, now) in &after {
                if let Some((_, before)) = before.iter().find(|(known, _)| known == id)
                    && (*before == 0) != (*now == 0)
                {
                    expected_edges.push((
                        id.clone(),
                        if *now == 0 { EventType::Depleted } else { EventType::Restored },
                    ));
                }
            }
            let expected = self.model.apply(&command, symbol, self.now, self.limits.life_max_seconds);
            compare(&command, &outcome, expected);
            if let (Ok(Accepted::Reservation { reservation, change }), Symbol::Reserve { .. }) =
                (&outcome, symbol)
                && *change == Change::Changed
            {
                self.tokens.push(reservation.token);
            }
            all_refused &= outcome.is_err();
        }
        let changes = set.into_changes();
        assert!(!all_refused || changes.is_empty(), "I12: refusals changed {changes:?}");
        let edges: Vec<_> = changes
            .events
            .iter()
            .filter_map(|event| match &event.key {
                EventKey::Resource(id) => Some((id.clone(), event.kind)),
                EventKey::Reservation(_) => None,
            })
            .collect();
        let unordered = |edges: &[(ResourceId, EventType)]| {
            let mut sorted: Vec<_> = edges.iter().map(|(id, kind)| (id.clone(), kind.as_str())).collect();
            sorted.sort();
            sorted
        };
        assert_eq!(unordered(&edges), unordered(&expected_edges));
        self.books.write(changes);
        self.books.check();
        self.compare_views();
    }

    /// Readers must see what the model knows.
    fn compare_views(&self) {
        assert_eq!(self.model.reservations.len(), self.books.reservations.len());
        for known in &self.model.reservations {
            let stored = self.books.reservations[&known.token].clone().as_of(self.now);
            assert_eq!((stored.status, stored.expires_at), (known.status, known.expires_at));
        }
        let keys: HashSet<_> =
            self.books.reservations.values().map(|reservation| reservation.key.clone()).collect();
        assert_eq!(keys.len(), self.books.reservations.len(), "I5: a key made two reservations");
    }
}

fn available(set: &WorkingSet) -> Vec<(ResourceId, u64)> {
    (0..=RESOURCES)
        .filter_map(|n| set.resource(&ResourceId::new("id", &format!("r{n}")).expect("valid")))
        .map(|resource| (resource.id.clone(), resource.available))
        .collect()
}

fn compare(command: &Command, outcome: &Outcome, expected: Result<&str, &str>) {
    let seen = match outcome {
        Ok(Accepted::Reservation { change, .. }) => Ok(match change {
            _ if matches!(command, Command::Expire(_)) => "expired",
            Change::Changed => "changed",
            Change::Unchanged => "unchanged",
            Change::Replayed => "replayed",
        }),
        Ok(Accepted::Resource { change, .. }) => Ok(match change {
            ResourceChange::Created => "created",
            ResourceChange::Changed { .. } => "changed",
            ResourceChange::Unchanged => "unchanged",
        }),
        Err(refusal) => Err(refusal.slug()),
    };
    assert_eq!(seen, expected, "{command:?}");
    if let (Command::Reserve(_), Ok(Accepted::Reservation { reservation, .. })) = (command, outcome) {
        assert!(reservation.status.takes_stock(), "{command:?} was accepted without units");
    }
}

#[test]
fn random_commands_do_what_a_simple_model_says() {
    let seed: u64 = match std::env::var("BESPEAK_TEST_SEED") {
        Ok(seed) => seed.parse().expect("BESPEAK_TEST_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("BESPEAK_TEST_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let commands = std::cell::Cell::new(0_usize);
    let result = runner.run(&vec(step(), 1..40), |steps| {
        let limits = Limits { life_max_seconds: 12, ..Limits::default() };
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut run =
            Run { model: Model::default(), books: Books::default(), limits, now, tokens: Vec::new() };
        // The last of the resources does not exist at first.
        let defines = (0..RESOURCES).map(|resource| Symbol::Define { resource, total: 6 }).collect();
        run.step(&Step { millis: 0, batch: defines });
        for step in &steps {
            commands.set(commands.get() + step.batch.len());
            run.step(step);
        }
        Ok(())
    });
    match result {
        Ok(()) => assert!(commands.get() >= 100_000, "only {} commands", commands.get()),
        Err(TestError::Fail(why, steps)) => {
            panic!("BESPEAK_TEST_SEED={seed}: {why}\nsmallest case: {steps:#?}")
        }
        Err(error) => panic!("BESPEAK_TEST_SEED={seed}: {error}"),
    }
}
