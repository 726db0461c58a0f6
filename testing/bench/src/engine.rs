//! Measures the engine alone: commands per second on one core, without a store and HTTP.

use std::time::Instant;

use bespeak::engine::{
    Command, IdempotencyKey, Item, Items, Limits, Quantity, Reserve, ReserveDraft, Resource, ResourceId,
    Timestamp, Token, Violation, WorkingSet, apply,
};
use uuid::Uuid;

/// The number of holds that share a working set, similar to a transaction under load.
const BATCH: usize = 256;

/// Applies batches of holds on one resource, then commits them; returns commands per second.
pub(crate) fn commands_per_second(batches: usize) -> Result<f64, Violation> {
    let limits = Limits::default();
    let id = ResourceId::new("id", "hot")?;
    let now = Timestamp::now();
    let prepared = (0..batches).map(|n| holds(&id, &limits, n)).collect::<Result<Vec<_>, _>>()?;
    let resource = Resource {
        id,
        total: u64::from(u32::MAX),
        available: u64::from(u32::MAX),
        version: 1,
        fulfilment: bespeak::engine::Fulfilment::None,
        created_at: now,
        updated_at: now,
    };
    let started = Instant::now();
    let mut applied = 0_u64;
    let mut accepted = 0_u64;
    for batch in &prepared {
        let mut set = WorkingSet::new();
        set.add_resource(resource.clone());
        for reserve in batch {
            for command in [Command::Reserve(reserve.clone()), Command::Commit(reserve.token)] {
                accepted += u64::from(apply(&mut set, &command, now).is_ok());
                applied += 1;
            }
        }
        std::hint::black_box(set.into_changes());
    }
    let elapsed = started.elapsed();
    assert_eq!(accepted, applied, "every command must be accepted");
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    Ok(applied as f64 / elapsed.as_secs_f64())
}

/// The holds of a batch.
fn holds(id: &ResourceId, limits: &Limits, batch: usize) -> Result<Vec<Reserve>, Violation> {
    (0..BATCH)
        .map(|n| {
            let item = Item { resource_id: id.clone(), quantity: Quantity::new("quantity", 1)? };
            let draft = ReserveDraft {
                items: Items::new(vec![item], limits)?,
                ttl: limits.ttl("ttlSeconds", None)?,
                holder: None,
                metadata: None,
                key: IdempotencyKey::new(&format!("key-{batch}-{n}"))?,
            };
            Ok(draft.with_token(Token::from_uuid(Uuid::now_v7())))
        })
        .collect()
}
