//! Webhook endpoints: created, changed, read, and configured by the environment.

use super::{
    webhooks::{key as key_of, url},
    *,
};
use crate::{
    store::webhooks::{Deletion, EndpointPage},
    webhooks::{
        Configured, CustomHeaders, EndpointChange, EndpointId, EndpointUpdate, EventFilter, NewEndpoint,
        RequestDigest, Rotation, WebhookRefusal,
    },
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
    let headers = CustomHeaders::from_pairs("headers", [("Authorization", "Bearer it's \"a\" \\ secret")]);
    let update = EndpointUpdate {
        url: Some(url("https://example.com/moved?key=1")),
        filter: Some(filter),
        headers: Some(headers.expect("valid")),
    };
    let moved = subject.change(&made, EndpointChange::Update(update.clone())).await;
    assert_eq!(other.endpoint(made.id).await.expect("read").as_ref(), Some(&moved));
    assert_eq!(
        (Some(moved.url), Some(moved.filter), Some(moved.headers)),
        (update.url, update.filter, update.headers)
    );
    let unknown = EndpointId::from_uuid(Uuid::now_v7());
    assert_eq!(store.endpoint(unknown).await.expect("read"), None);
    let refused = store.change_endpoint(unknown, &EndpointChange::Enable).await.expect("read");
    assert_eq!(refused, Err(WebhookRefusal::NoEndpoint));

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

fn rotation(secret: u8, seconds: u64, key: Option<&str>) -> EndpointChange {
    let request = key.map(|name| RequestDigest::new(name, &[&secret.to_string()]));
    let overlap = Duration::from_secs(seconds);
    EndpointChange::Rotate(Rotation { secret: key_of(secret), overlap, request })
}

/// After a rotation all secrets sign, the newest first, each until its own end.
pub async fn a_rotated_secret_signs_for_a_while(subject: &Subject) {
    let endpoint = subject.endpoint(1).await;
    subject.change(&endpoint, rotation(2, 2, None)).await;
    subject.enqueued(&endpoint, 3).await;
    assert_eq!(subject.claims(1, 1).await[0].to.secrets, [key_of(2), key_of(1)]);
    // Given a second rotation, as by a client that did not get the answer to the first
    subject.change(&endpoint, rotation(3, 600, None)).await;
    assert_eq!(subject.claims(1, 1).await[0].to.secrets, [key_of(3), key_of(2), key_of(1)]);
    subject.pass(Duration::from_secs(2)).await;
    assert_eq!(subject.claims(1, 1).await[0].to.secrets, [key_of(3), key_of(2)]);
}

/// A rotation that is retried under its idempotency key changes nothing, and the number of secrets is bounded.
pub async fn a_rotation_is_safe_to_retry(subject: &Subject) {
    let [store, other] = &subject.webhooks;
    let endpoint = subject.endpoint(1).await;
    let first = subject.change(&endpoint, rotation(2, 600, Some("k"))).await;
    let again = other.change_endpoint(endpoint.id, &rotation(2, 600, Some("k"))).await.expect("read");
    assert_eq!(again.as_ref(), Ok(&first), "a retry with the same secret");
    let Some(RequestDigest { key, request }) = first.rotated_by else { panic!("no request is stored") };
    let redrawn = Rotation {
        secret: key_of(9),
        overlap: Duration::from_secs(600),
        request: Some(RequestDigest { key, request }),
    };
    let again = other.change_endpoint(endpoint.id, &EndpointChange::Rotate(redrawn)).await.expect("read");
    assert_eq!(again, Ok(first), "a retry for which another secret was drawn");
    let reused = store.change_endpoint(endpoint.id, &rotation(3, 600, Some("k"))).await.expect("read");
    assert_eq!(reused, Err(WebhookRefusal::KeyReused));
    for secret in 3..6 {
        subject.change(&endpoint, rotation(secret, 600, None)).await;
    }
    let refused = store.change_endpoint(endpoint.id, &rotation(6, 600, None)).await.expect("read");
    assert_eq!(refused, Err(WebhookRefusal::TooManySecrets), "each of the four still signs");
    let alone = subject.change(&endpoint, rotation(6, 0, None)).await;
    assert_eq!((alone.secret, alone.previous), (key_of(6), Vec::new()), "no overlap ends all of them");
}

/// A creation that is retried finds the endpoint, and there are no more endpoints than may be.
pub async fn creating_an_endpoint_is_idempotent_and_bounded(subject: &Subject) {
    let new = |name: &str, path: &str| NewEndpoint {
        id: EndpointId::of_key(name),
        url: url(path),
        filter: EventFilter::default(),
        headers: CustomHeaders::default(),
        secret: key_of(1),
        request: Some(RequestDigest::new(name, &[path])),
    };
    let create = |n: usize, new: NewEndpoint| {
        let store = subject.webhooks[n % 2].clone();
        async move { store.create_endpoint(&new, 3).await.expect("answered") }
    };
    let first = create(0, new("a", "https://example.com/a")).await.expect("created");
    let retry = NewEndpoint { secret: key_of(2), ..new("a", "https://example.com/a") };
    let again = create(1, retry).await.expect("found");
    assert_eq!((again.is_replayed, &again.endpoint), (true, &first.endpoint));
    let other = create(1, new("a", "https://example.com/b")).await;
    assert_eq!(other, Err(WebhookRefusal::KeyReused));
    let creations: Vec<_> =
        (0..6).map(|n| tokio::spawn(create(n, new(&n.to_string(), "https://example.com/")))).collect();
    let mut refused = 0;
    for creation in creations {
        if let Err(refusal) = creation.await.expect("no panic") {
            assert_eq!(refusal, WebhookRefusal::TooManyEndpoints { max: 3 });
            refused += 1;
        }
    }
    assert_eq!(refused, 4, "two of the six and the first one are all that may be");
    assert_eq!(
        subject.webhooks[0].delete_endpoint(first.endpoint.id, 9).await.expect("deleted"),
        Deletion::Done
    );
    assert!(create(0, new("a", "https://example.com/b")).await.is_ok(), "its place and its key are free");
}

/// Processes that start at the same time create one endpoint, which is disabled once the configuration has none.
pub async fn the_configured_endpoint_is_created_once(subject: &Subject) {
    let store = &subject.webhooks[0];
    let wanted = Configured { url: url("https://example.com/one"), secret: key_of(1), filter: None };
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
    let moved = Configured { url: url("https://example.com/two"), secret: key_of(2), filter: None };
    store.configure_endpoint(Some(&moved)).await.expect("configured");
    let stored = store.endpoint(EndpointId::ENVIRONMENT).await.expect("read").expect("kept");
    assert_eq!((stored.url, stored.secret, stored.disabled), (moved.url, moved.secret, None));
}
