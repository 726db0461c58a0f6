//! Stands in for the sender in builds without the feature `webhooks-client`. It has no values, so no dispatcher can
//! be made.

use super::{Message, NoWebhooksClient, Received, SenderOptions};
use crate::{engine::Timestamp, webhooks::Receiver};

/// A sender that cannot exist.
#[derive(Debug)]
pub enum Sender {}

impl Sender {
    /// Fails: this build has no client.
    pub fn new(_: SenderOptions) -> Result<Self, NoWebhooksClient> {
        Err(NoWebhooksClient)
    }

    /// Cannot be called.
    #[expect(clippy::unused_async, reason = "the same signature as with the client")]
    pub async fn send(&self, _: &Receiver, _: &Message, _: Timestamp) -> Received {
        match *self {}
    }
}
