use std::time::Duration;

use super::{super::*, at, secret};

fn made(url: &str) -> Endpoint {
    let new = NewEndpoint {
        id: EndpointId::of_key("a"),
        url: EndpointUrl::parse("url", url).expect("a URL"),
        filter: EventFilter::default(),
        headers: CustomHeaders::from_pairs("headers", [("X-Key", "hunter2")]).expect("valid"),
        secret: secret(1),
        request: None,
    };
    new.made(at("2026-01-01T00:00:00Z"))
}

/// A rotation whose answer was lost is made again: the secret that the receiver has goes on to sign.
#[test]
fn each_earlier_secret_signs_until_its_own_end() {
    let (now, later) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:10:00Z"));
    let rotate = |byte, minutes: u64| {
        let overlap = Duration::from_secs(minutes * 60);
        EndpointChange::Rotate(Rotation { secret: secret(byte), overlap, request: None })
    };
    let rotated = made("https://a.example/").changed(&rotate(2, 10), now).expect("rotated");
    let rotated = rotated.changed(&rotate(3, 60), now).expect("rotated");
    assert_eq!(rotated.receiver(now).secrets, [secret(3), secret(2), secret(1)]);
    assert_eq!(rotated.receiver(later).secrets, [secret(3), secret(2)]);
    let same = rotated.clone().changed(&rotate(3, 60), later).expect("unchanged");
    assert_eq!(same, rotated, "the same secret again");
    let back = rotated.clone().changed(&rotate(2, 60), now).expect("rotated");
    assert_eq!(back.receiver(now).secrets, [secret(2), secret(3), secret(1)]);
    let at_once = rotated.changed(&rotate(4, 0), now).expect("rotated");
    assert_eq!(at_once.receiver(now).secrets, [secret(4)], "no overlap ends all of them");
}

#[test]
fn headers_do_not_follow_a_url_to_another_host() {
    let now = at("2026-01-01T00:00:00Z");
    let moved = |url: &str, headers: Option<CustomHeaders>| {
        let url = Some(EndpointUrl::parse("url", url).expect("a URL"));
        let update = EndpointUpdate { url, headers, ..EndpointUpdate::default() };
        made("https://a.example/x?key=1").changed(&EndpointChange::Update(update), now)
    };
    assert!(moved("https://a.example/y", None).is_ok());
    for other in ["https://b.example/x", "http://a.example/x", "https://a.example:8443/x"] {
        assert_eq!(moved(other, None), Err(WebhookRefusal::HeadersOfOtherHost), "{other}");
        assert!(moved(other, Some(CustomHeaders::default())).is_ok(), "{other}");
    }
}

#[test]
fn values_of_headers_and_queries_of_urls_are_not_shown() {
    let endpoint = made("https://a.example/x?key=hunter2");
    let receiver = endpoint.receiver(at("2026-01-01T00:00:00Z"));
    for shown in [format!("{endpoint:?}"), format!("{receiver:?}"), endpoint.url.to_string()] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert_eq!(endpoint.url.masked(), "https://a.example/x?***");
    assert_eq!(
        EndpointUrl::parse("url", "https://a.example/x").expect("a URL").masked(),
        "https://a.example/x"
    );
}

#[test]
fn headers_of_the_message_cannot_be_set_and_values_are_text() {
    let parse = |name: &str, value: &str| CustomHeaders::from_pairs("headers", [(name, value)]);
    let headers = parse("AUTHORIZATION", "Bearer a b").expect("valid");
    assert_eq!(headers.names().collect::<Vec<_>>(), ["authorization"]);
    let stored = headers.as_stored().expect("some");
    assert_eq!(CustomHeaders::from_stored(&stored), Ok(headers));
    for name in [
        "Host",
        "content-length",
        "Content-Type",
        "Transfer-Encoding",
        "connection",
        "TE",
        "Webhook-Id",
        "webhook-signature",
        "webhook-anything",
        "traceparent",
        "User-Agent",
        "",
        "a b",
        "a:b",
        "é",
        "a\n",
    ] {
        assert!(parse(name, "x").is_err(), "{name}");
    }
    for value in ["", " a", "a ", "a\nb", "a\r\nHost: b", "é", "\0", &"x".repeat(1_025)] {
        let refused = parse("X-Key", value).expect_err(value);
        assert_eq!(refused.field, "headers.X-Key");
    }
    assert!(CustomHeaders::from_pairs("headers", [("a", "1"), ("A", "2")]).is_err(), "one name twice");
    let many: Vec<String> = (0..9).map(|n| format!("x-{n}")).collect();
    assert!(CustomHeaders::from_pairs("headers", many.iter().map(|name| (&**name, "1"))).is_err());
}
