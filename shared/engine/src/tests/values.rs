//! The values that are parsed at the edge, and those that are refused there.

use serde_json::json;

use crate::*;

#[test]
fn resource_ids() {
    for good in ["a", "Room.101", "hotel/2026-12-24/room:7", "a..b", "a_b-c", &"x".repeat(128)] {
        assert!(ResourceId::new("id", good).is_ok(), "{good}");
    }
    for bad in [
        "",
        " ",
        "a b",
        "a\0",
        "ä",
        "..",
        ".",
        "a/../b",
        "a/./b",
        "/a",
        "a/",
        "a//b",
        "a?b",
        "a%2Fb",
        &"x".repeat(129),
    ] {
        let violation = ResourceId::new("id", bad).expect_err(bad);
        assert_eq!(violation.field, "id");
    }
    assert_ne!(ResourceId::new("id", "Room"), ResourceId::new("id", "room"));
}

#[test]
fn keys_tokens_and_holders() {
    assert!(IdempotencyKey::new("k ").is_ok_and(|key| key.as_str() == "k "));
    for bad in ["", &"k".repeat(256), "k\n", "ключ"] {
        assert!(IdempotencyKey::new(bad).is_err(), "{bad:?}");
    }
    assert!(Token::parse("token", "01890a5d-ac96-774b-bcce-b302099a8057").is_ok());
    for bad in
        ["", "01890a5dac96774bbcceb302099a8057", "{01890a5d-ac96-774b-bcce-b302099a8057}", "not-a-uuid"]
    {
        assert!(Token::parse("token", bad).is_err(), "{bad:?}");
    }
    for bad in ["", "a\u{7}b", &"ä".repeat(129)] {
        assert!(Holder::new(bad).is_err(), "{bad:?}");
    }
    assert!(Holder::new(&"ä".repeat(128)).is_ok(), "characters are counted, not bytes");
}

#[test]
fn numbers_at_their_bounds() {
    let limits = Limits::default();
    for (units, fits) in [(0, false), (1, true), (1_000_000, true), (1_000_001, false)] {
        assert_eq!(limits.quantity("quantity", units).is_ok(), fits, "{units}");
    }
    for (units, fits) in [(0, true), (TOTAL_MAX, true), (TOTAL_MAX + 1, false)] {
        assert_eq!(limits.total("totalStock", units).is_ok(), fits, "{units}");
    }
    for (seconds, fits) in [(0, false), (1, true), (86_400, true), (86_401, false)] {
        assert_eq!(limits.ttl("ttlSeconds", Some(seconds)).is_ok(), fits, "{seconds}");
    }
    assert_eq!(limits.ttl("ttlSeconds", None).map(Ttl::seconds), Ok(300));
}

fn items(given: &[(&str, u64)]) -> Result<Items, Violation> {
    let items = given
        .iter()
        .map(|(id, units)| Item {
            resource_id: ResourceId::new("id", id).expect("valid"),
            quantity: Quantity::new("quantity", *units).expect("valid"),
        })
        .collect();
    Items::new(items, &Limits::default())
}

#[test]
fn items_are_merged_and_sorted_and_bounded_after_merging() {
    let merged = items(&[("b", 1), ("a", 2), ("b", 3)]).expect("valid");
    let seen: Vec<_> = merged.iter().map(|item| (item.resource_id.as_str(), item.quantity.units())).collect();
    assert_eq!(seen, [("a", 2), ("b", 4)]);
    assert_eq!(items(&[]).expect_err("empty").field, "items");
    assert_eq!(items(&[("a", 1); 33]).expect_err("too many").field, "items");
    assert_eq!(items(&[("a", 600_000), ("a", 600_000)]).expect_err("too much in all").field, "quantity");
}

#[test]
fn metadata_is_an_object_in_canonical_form_within_its_bound() {
    let limits = Limits::default();
    let parsed = |text: &str| {
        let json = serde_json::value::RawValue::from_string(text.to_owned()).expect("JSON");
        Metadata::new(&json, &limits)
    };
    let canonical = parsed(r#"{ "b":1, "a":[{"z":1,"y":2}] }"#).expect("an object");
    assert_eq!(canonical.as_str(), r#"{"a":[{"y":2,"z":1}],"b":1}"#);
    assert_eq!(parsed(r#"{"a":[{"y":2,"z":1}],"b":1}"#), Ok(canonical));
    assert!(parsed("[1]").is_err());
    assert!(parsed(&json!({"a": "x".repeat(4096 - 8)}).to_string()).is_ok());
    assert!(parsed(&json!({"a": "x".repeat(4096 - 7)}).to_string()).is_err());
}

#[test]
fn a_fingerprint_tells_requests_apart_and_spellings_not() {
    let limits = Limits::default();
    let ttl = limits.ttl("ttl", None).expect("valid");
    let holder = |name: &str| Holder::new(name).expect("valid");
    let of =
        |given: &[(&str, u64)], ttl: Ttl, holder: Option<Holder>, metadata: Option<serde_json::Value>| {
            let raw = |value| serde_json::value::to_raw_value(&value).expect("JSON");
            let metadata = metadata.map(|value| Metadata::new(&raw(value), &limits).expect("valid"));
            Fingerprint::of(&items(given).expect("valid"), ttl, holder.as_ref(), metadata.as_ref())
        };
    let base = of(&[("a", 1), ("b", 2)], ttl, None, None);
    assert_eq!(base, of(&[("b", 2), ("a", 1)], ttl, None, None), "the order of items");
    assert_eq!(
        base,
        of(&[("a", 1), ("b", 2)], limits.ttl("ttl", Some(300)).expect("valid"), None, None),
        "a default"
    );
    let others = [
        of(&[("a", 2), ("b", 2)], ttl, None, None),
        of(&[("a", 1)], ttl, None, None),
        of(&[("a", 1), ("b", 2)], limits.ttl("ttl", Some(299)).expect("valid"), None, None),
        of(&[("a", 1), ("b", 2)], ttl, Some(holder("ann")), None),
        of(&[("a", 1), ("b", 2)], ttl, None, Some(json!({"ann": 1}))),
    ];
    assert!(others.iter().all(|other| *other != base));
    let distinct: std::collections::HashSet<_> = others.iter().collect();
    assert_eq!(distinct.len(), others.len());
}
