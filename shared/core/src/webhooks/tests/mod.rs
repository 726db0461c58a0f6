mod change;
mod health;
mod policy;

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::engine::{EventType, Timestamp};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn secret(byte: u8) -> Secret {
    Secret::from_key([byte; Secret::KEY_BYTES])
}

#[test]
fn a_filter_accepts_types_and_prefixes_of_types() {
    let filter =
        EventFilter::parse("bespeak.stock.*  bespeak.reservation.held.v1 bespeak.stock.*").expect("valid");
    assert_eq!(filter.as_text(), "bespeak.reservation.held.v1 bespeak.stock.*");
    assert!(filter.wants("bespeak.stock.depleted.v1") && filter.wants("bespeak.reservation.held.v1"));
    assert!(filter.wants("bespeak.stock.of_later.v1"), "a prefix matches types of later versions");
    assert!(
        !filter.wants("bespeak.reservation.committed.v1") && !filter.wants("bespeak.reservation.held.v10")
    );
    let all = EventFilter::parse(" ").expect("valid");
    assert!(EventType::ALL.iter().all(|kind| all.wants(kind.as_str())));
    for wrong in ["bespeak.stock", "bespeak.stocks.*", "*.v1", "bespeak.*.v1", "held", "**"] {
        let violation = EventFilter::from_patterns("eventTypes", ["bespeak.*", wrong]).expect_err(wrong);
        assert_eq!(violation.field, "eventTypes[1]");
    }
    let many = vec!["bespeak.*"; EventFilter::PATTERNS_MAX + 1];
    assert!(EventFilter::from_patterns("eventTypes", many).is_err());
}

#[test]
fn a_secret_is_24_to_64_bytes_and_is_never_shown_by_accident() {
    let drawn = secret(7);
    assert_eq!(Secret::parse("secret", drawn.reveal()), Ok(drawn.clone()));
    assert_eq!(format!("{drawn:?}"), "Secret(***)");
    assert!(Secret::parse("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok(), "24 bytes");
    for wrong in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64"] {
        let violation = Secret::parse("secret", wrong).expect_err(wrong);
        assert!(violation.to_string().contains("whsec_"), "{violation}");
    }
}

/// The example of the specification's own library.
#[test]
fn a_signature_is_that_of_standard_webhooks() {
    let secret = Secret::parse("secret", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("valid");
    let signed = secret.sign(
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        Timestamp::from_second(1_649_367_553).expect("a time"),
        r#"{"email":"test@example.com","username":"test_user"}"#,
    );
    assert_eq!(signed, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
}

#[test]
fn a_url_is_http_without_a_user_and_not_too_long() {
    for good in ["https://example.com/hooks?a=1", "http://[2606:4700::1111]:8080", "https://bücher.example/"]
    {
        assert!(EndpointUrl::parse("url", good).is_ok(), "{good}");
    }
    let long = format!("https://example.com/{}", "x".repeat(2_048));
    for wrong in [
        "",
        "example.com",
        "ftp://example.com",
        "https://user@example.com",
        "https://:p@example.com",
        "https://",
        "https://a/#b",
        &long,
    ] {
        assert_eq!(EndpointUrl::parse("url", wrong).expect_err(wrong).field, "url");
    }
}

#[test]
fn addresses_that_only_this_machine_or_its_network_reaches_are_forbidden() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "168.63.129.16",
        "192.31.196.1",
        "192.52.193.1",
        "192.88.99.1",
        "192.175.48.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.1",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2620:4f:8000::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(forbidden(address.parse().expect("an address")).is_some(), "{address}");
    }
}

#[test]
fn addresses_of_the_public_internet_are_allowed() {
    for address in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "126.0.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "168.63.129.15",
        "192.0.1.1",
        "192.175.49.1",
        "198.17.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "2002:101:101::1",
        "64:ff9b::1.1.1.1",
        "::ffff:1.1.1.1",
    ] {
        assert_eq!(forbidden(address.parse().expect("an address")), None, "{address}");
    }
}

/// The check applies to the address, however it is written in the URL.
#[test]
fn unusual_notations_of_an_address_are_recognised() {
    for host in
        ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::ffff:7f00:1]", "１２７.0.0.1", "127.0.0.1."]
    {
        let url = EndpointUrl::parse("url", &format!("http://{host}/")).expect(host);
        assert!(url.address().and_then(forbidden).is_some(), "{host} {:?}", url.address());
    }
}

proptest! {
    #[test]
    fn an_ipv4_address_is_judged_the_same_however_it_is_embedded(bits: u32) {
        let plain = std::net::Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = plain.octets();
        let what = |address: IpAddr| match forbidden(address) {
            Some(Forbidden::Address { what, .. }) => Some(what),
            _ => None,
        };
        for text in [
            format!("::ffff:{plain}"),
            format!("64:ff9b::{plain}"),
            format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1"),
        ] {
            prop_assert_eq!(what(text.parse().expect("an address")), what(plain.into()));
        }
    }
}

fn configured(url: &str, byte: u8) -> Configured {
    Configured { url: EndpointUrl::parse("url", url).expect("a URL"), secret: secret(byte), filter: None }
}

#[test]
fn the_endpoint_of_the_environment_follows_the_configuration() {
    let (now, later) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
    let wanted = configured("https://a.example/", 1);
    assert_eq!(Endpoint::configured(None, None, now), None);
    let made = Endpoint::configured(None, Some(&wanted), now).expect("made");
    assert_eq!((made.id, made.origin), (EndpointId::ENVIRONMENT, EndpointOrigin::Environment));
    assert_eq!(Endpoint::configured(Some(made.clone()), Some(&wanted), later), None, "nothing to do");

    let removed = Endpoint::configured(Some(made.clone()), None, later).expect("disabled");
    assert!(
        removed.disabled.as_ref().is_some_and(|disabled| disabled.reason.contains("BESPEAK_WEBHOOK_URL"))
    );
    assert_eq!(Endpoint::configured(Some(removed.clone()), None, later), None);
    let back = Endpoint::configured(Some(removed), Some(&wanted), later).expect("enabled");
    assert_eq!(back.disabled, None);

    let gone = made.clone().changed(&EndpointChange::Disable { reason: "410".to_owned() }, now).expect("off");
    assert_eq!(Endpoint::configured(Some(gone.clone()), Some(&wanted), later), None, "a 410 stays in force");
    let moved = configured("https://b.example/", 1);
    let moved = Endpoint::configured(Some(gone), Some(&moved), later).expect("moved");
    assert_eq!((moved.disabled, moved.url.as_str()), (None, "https://b.example/"));

    let rotated =
        Endpoint::configured(Some(made), Some(&configured("https://a.example/", 2)), later).expect("rotated");
    assert_eq!(rotated.receiver(later).secrets, [secret(2), secret(1)]);
    assert_eq!(rotated.receiver(at("2026-01-03T00:00:00Z")).secrets, [secret(2)]);
}

#[test]
fn a_change_that_is_in_force_already_alters_nothing() {
    let (now, later) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
    let made = Endpoint::configured(None, Some(&configured("https://a.example/", 1)), now).expect("made");
    let disable = |reason: &str| EndpointChange::Disable { reason: reason.to_owned() };
    let off = made.clone().changed(&disable("first"), now).expect("disabled");
    let again = off.clone().changed(&disable("second"), later).expect("disabled");
    assert_eq!(again, off, "the first reason counts");
    assert_eq!(made.clone().changed(&EndpointChange::Enable, later).expect("enabled"), made);
}
