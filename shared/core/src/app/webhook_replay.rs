//! Replays events to a webhook endpoint, in pages: deliveries that exist are pending again, and events of the outbox
//! that the endpoint has no delivery for are enqueued.

use std::time::{Duration, Instant};

use super::{
    App, Rejected, Reply,
    webhooks::{STEP, STEPS_MAX},
};
use crate::{
    effects::NewDelivery,
    engine::{Timestamp, Violation},
    envelope::{OutboxEvent, record, webhook_body},
    store::{Database, OutboxFilter, OutboxState, StoreError, webhooks::ReplayPage},
    webhooks::{DeliveryId, Endpoint, EndpointId, WebhookRefusal},
};

/// The time after which a page ends, so that no request takes long on a slow database.
const PAGE_TIME: Duration = Duration::from_secs(5);
/// How far the time of an event may be behind that of an event that stands before it in the outbox: longer than any
/// transaction takes.
const DISORDER: Duration = Duration::from_secs(10 * 60);

/// A request to replay the events of a span of time to an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct WebhookReplay {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Events at this instant and later.
    pub from: Timestamp,
    /// Events before this instant.
    pub to: Timestamp,
    /// Whether only events are enqueued that the endpoint has no delivery for.
    pub only_missing: bool,
    /// The place at which an earlier page ended.
    pub after: Option<ReplayPlace>,
}

/// A place within a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayPlace {
    /// After the delivery with this event time and id.
    Delivery(Timestamp, DeliveryId),
    /// After this position in the outbox.
    Event(i64),
}

/// A page of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WebhookReplayed {
    /// Deliveries that existed and are pending again.
    pub deliveries: u64,
    /// Deliveries that did not exist and were enqueued.
    pub enqueued: u64,
    /// Where the next page starts; `None` at the end.
    pub next: Option<ReplayPlace>,
}

impl ReplayPlace {
    /// The place as text.
    pub fn as_text(self) -> String {
        match self {
            Self::Delivery(at, id) => format!("d{}-{}", at.as_microsecond(), id.number()),
            Self::Event(position) => format!("e{position}"),
        }
    }

    /// Parses [`Self::as_text`].
    pub fn parse(field: &str, text: &str) -> Result<Self, Violation> {
        let parsed = match text.split_at_checked(1) {
            Some(("d", rest)) => rest.rsplit_once('-').and_then(|(at, id)| {
                let at = Timestamp::from_microsecond(at.parse().ok()?).ok()?;
                Some(Self::Delivery(at, DeliveryId::parse(field, id).ok()?))
            }),
            Some(("e", rest)) => rest.parse().ok().filter(|position| *position >= 0).map(Self::Event),
            _ => None,
        };
        parsed.ok_or_else(|| Violation::new(field, "must be the `next` of an earlier page"))
    }
}

impl App {
    /// Replays a page of the events of a span of time: at most 10,000 deliveries, up to 500 in one transaction. The
    /// caller repeats the request with [`WebhookReplayed::next`]. Not cancel-safe in that the page is lost:
    /// transactions that have ended stay, and the page may be repeated.
    ///
    /// # Errors
    /// There is no such endpoint, or too many replays run, or too many deliveries are pending already.
    pub async fn replay_webhook(&self, replay: WebhookReplay) -> Reply<WebhookReplayed, WebhookRefusal> {
        let _permit = self.begin_webhook_change()?;
        let state = self.webhook(replay.endpoint).await?;
        if state.health.is_full {
            return Err(Rejected::Refused(WebhookRefusal::Full));
        }
        let began = Instant::now();
        let mut page = WebhookReplayed { next: replay.after, ..WebhookReplayed::default() };
        if page.next.is_none() && replay.only_missing {
            page.next = Some(ReplayPlace::Event(self.first_event(replay.from).await?));
        }
        for _ in 0..STEPS_MAX {
            let (place, count) = match page.next {
                Some(ReplayPlace::Event(after)) => {
                    let (next, enqueued) = self.backfill_step(&state.endpoint, &replay, after).await?;
                    page.enqueued += enqueued;
                    (next.map(ReplayPlace::Event), enqueued)
                }
                Some(ReplayPlace::Delivery(at, id)) => {
                    self.replay_step(&replay, Some((at, id)), &mut page).await?
                }
                None => self.replay_step(&replay, None, &mut page).await?,
            };
            page.next = place;
            if count > 0 {
                self.webhooks.due.notify_one();
            }
            if page.next.is_none()
                || self.supervisor.stopping().is_cancelled()
                || began.elapsed() >= PAGE_TIME
            {
                break;
            }
        }
        Ok(page)
    }

    /// Makes the next deliveries pending again. Behind the last one, the events of the outbox follow.
    async fn replay_step(
        &self,
        replay: &WebhookReplay,
        after: Option<(Timestamp, DeliveryId)>,
        page: &mut WebhookReplayed,
    ) -> Reply<(Option<ReplayPlace>, u64), WebhookRefusal> {
        let WebhookReplay { endpoint, from, to, .. } = *replay;
        let step = ReplayPage { endpoint, from, to, after, limit: STEP };
        let replayed = self.run_webhook_transaction(async move |store| store.replay(step).await).await?;
        page.deliveries += replayed.deliveries;
        let next = match replayed.next {
            Some((at, id)) => ReplayPlace::Delivery(at, id),
            None => ReplayPlace::Event(self.first_event(from).await?),
        };
        Ok((Some(next), replayed.deliveries))
    }

    /// Enqueues the next events of the outbox that the endpoint subscribes to and has no delivery for. Returns the
    /// place of the next step, and how many were enqueued.
    async fn backfill_step(
        &self,
        endpoint: &Endpoint,
        replay: &WebhookReplay,
        after: i64,
    ) -> Reply<(Option<i64>, u64), WebhookRefusal> {
        let filter = OutboxFilter {
            state: Some(OutboxState::Published),
            after,
            limit: STEP,
            ..OutboxFilter::default()
        };
        let rows = self.dispatch.read(self.database.outbox_rows(&filter)).await?;
        let is_last = rows.len() < STEP as usize
            || rows.last().is_none_or(|row| is_past(row.event.created_at, replay.to));
        let next = rows.last().map(|row| row.event.id).filter(|_| !is_last);
        let skipped = self.dispatch.read(self.database.skipped()).await?;
        let in_span = |event: &OutboxEvent| {
            (replay.from..replay.to).contains(&event.created_at)
                && endpoint.filter.wants(&event.kind)
                && !skipped.contains(&event.event_id)
        };
        let new: Vec<NewDelivery> = (rows.iter().filter(|row| in_span(&row.event)))
            // An event that this version cannot decode has no body; consumers make dead letters of such events.
            .filter_map(|row| record(&row.event, &self.webhooks.source).incoming().ok())
            .map(|event| NewDelivery::new(&event, endpoint.id.uuid(), webhook_body(&event), false))
            .collect();
        if new.is_empty() {
            return Ok((next, 0));
        }
        let id = endpoint.id;
        let enqueued =
            self.run_webhook_transaction(async move |store| store.backfill(id, &new).await).await?;
        Ok((next, enqueued))
    }

    /// A position in the outbox before which there is no event of `from` or later, found by halving: positions ascend
    /// with time, apart from [`DISORDER`].
    async fn first_event(&self, from: Timestamp) -> Result<i64, StoreError> {
        let (mut low, mut high) = (0, i64::MAX / 2);
        while low < high {
            let middle = low + (high - low) / 2;
            match first_after(&*self.database, middle).await? {
                Some((id, at)) if is_past(from, at) => low = id,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }
}

/// Whether `at` is later than `than` by so much that no event before it is earlier.
fn is_past(at: Timestamp, than: Timestamp) -> bool {
    than.checked_add(DISORDER).is_ok_and(|than| at >= than)
}

/// The first event behind a position of the outbox, with its time.
async fn first_after(store: &dyn Database, after: i64) -> Result<Option<(i64, Timestamp)>, StoreError> {
    let filter = OutboxFilter { after, limit: 1, ..OutboxFilter::default() };
    Ok(store.outbox_rows(&filter).await?.first().map(|row| (row.event.id, row.event.created_at)))
}
