//! What happened, told to others.
//!
//! Never: rules. What an event is stands in `engine/event.rs`. Next: [`asyncapi`] for what others may rely on.

pub mod asyncapi;
mod notice;
mod schema;

pub use notice::{StockNotice, StockNoticeType};
pub use schema::schemas;
