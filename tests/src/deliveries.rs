//! Enqueues deliveries as a consumer does: as rows, in a transaction of its own.

use std::fmt::Write;

use bespeak::store::conformance::Enqueued;

use crate::Books;

impl Books {
    /// Enqueues a pending delivery with a payload that needs escaping.
    pub async fn enqueue(&self, delivery: &Enqueued) {
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        let (event_at, due) = (delivery.event_at.as_microsecond(), delivery.due.as_microsecond());
        // MySQL needs two backslashes in a literal for each one, SQLite does not.
        let slash = if self.is_file() { "\\" } else { "\\\\" };
        self.tamper(&format!(
            "INSERT INTO webhook_deliveries (endpoint_id, event_id, type, event_at, payload, status, attempts,
                next_attempt_at, created_at, updated_at)
            VALUES (x'{}', x'{}', 'bespeak.stock.depleted.v1', {event_at},
                '{{\"it''s\":\"a {slash}\"payload{slash}\" 東京 {slash}{slash}\"}}', 'PENDING', 0, {due}, {due}, {due})",
            hex(delivery.endpoint.uuid().as_bytes()),
            hex(delivery.event_id.as_bytes()),
        ))
        .await;
    }
}
