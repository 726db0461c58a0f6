//! Webhook endpoints: created, changed, read, and configured by the environment.

use super::{
    webhooks::{key, url},
    *,
};
use crate::{
    store::webhooks::EndpointPage,
    webhooks::{Configured, EndpointChange, EndpointId, EventFilter},
};

/// An endpoint that was written is read, also by other processes, and each change takes effect.
pub async fn endpoints_are_created_changed_and_read(subject: &Subject) {
    let [store, other] = &subject.webhooks;
    let made = subject.endpoint(1).await;
    assert_eq!(other.endpoint(made.id).await.expect("read"), Some(made.clone()));
    let off = subject.change(&made, EndpointChange::Disable { reason: "it's 東京".to_owned() }).await;
    assert_eq!(other.endpoint(made.id).await.expect("read"), Some(off.clone()));
    assert_eq!(off.disabled.as_ref().map(|disabled| &*disabled.reason), Some("it's 東京"));
    let on = subject.change(&made, EndpointChange::Enable).await;
    assert_eq!((on.disabled, &on.secret), (None, &made.secret));
    let filter = EventFilter::parse("").expect("valid");
    assert_eq!(subject.change(&made, EndpointChange::Filter(filter.clone())).await.filter, filter);
    let unknown = EndpointId::from_uuid(Uuid::now_v7());
    assert_eq!(store.endpoint(unknown).await.expect("read"), None);
    assert_eq!(store.change_endpoint(unknown, &EndpointChange::Enable).await.expect("read"), None);

    let mut ids = vec![made.id];
    for n in 2..6 {
        ids.push(subject.endpoint(n).await.id);
    }
    let page = |after| store.endpoints(EndpointPage { after, limit: 3 });
    let first: Vec<_> = page(None).await.expect("read").iter().map(|endpoint| endpoint.id).collect();
    assert_eq!(first, ids[..3]);
    let second: Vec<_> = page(Some(ids[2])).await.expect("read").iter().map(|endpoint| endpoint.id).collect();
    assert_eq!(second, ids[3..]);
}

/// After a rotation both secrets sign, the newest first, until the overlap ends.
pub async fn a_rotated_secret_signs_for_a_while(subject: &Subject) {
    let endpoint = subject.endpoint(1).await;
    let overlap = Duration::from_secs(2);
    subject.change(&endpoint, EndpointChange::Rotate { secret: key(2), overlap }).await;
    subject.enqueued(&endpoint, 2).await;
    assert_eq!(subject.claims(1, 1).await[0].to.secrets, [key(2), key(1)]);
    subject.pass(overlap).await;
    assert_eq!(subject.claims(1, 1).await[0].to.secrets, [key(2)]);
}

/// Processes that start at the same time create one endpoint, which is disabled once the configuration has none.
pub async fn the_configured_endpoint_is_created_once(subject: &Subject) {
    let store = &subject.webhooks[0];
    let wanted = Configured { url: url("https://example.com/one"), secret: key(1), filter: None };
    let starts: Vec<_> = (0..6)
        .map(|n| {
            let (store, wanted) = (subject.webhooks[n % 2].clone(), wanted.clone());
            tokio::spawn(async move { store.configure_endpoint(Some(&wanted)).await })
        })
        .collect();
    for start in starts {
        start.await.expect("no panic").expect("configured");
    }
    let all = store.endpoints(EndpointPage { after: None, limit: 10 }).await.expect("read");
    assert_eq!(all.iter().map(|endpoint| endpoint.id).collect::<Vec<_>>(), [EndpointId::ENVIRONMENT]);
    store.configure_endpoint(None).await.expect("configured");
    let stored = store.endpoint(EndpointId::ENVIRONMENT).await.expect("read").expect("kept");
    assert!(stored.disabled.is_some());
    let moved = Configured { url: url("https://example.com/two"), secret: key(2), filter: None };
    store.configure_endpoint(Some(&moved)).await.expect("configured");
    let stored = store.endpoint(EndpointId::ENVIRONMENT).await.expect("read").expect("kept");
    assert_eq!((stored.url, stored.secret, stored.disabled), (moved.url, moved.secret, None));
}
