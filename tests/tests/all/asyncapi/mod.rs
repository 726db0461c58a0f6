//! The description of the events matches the written events and the committed files, and changes only additively
//! within v1.

mod additive;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use bespeak::{
    engine::{EventType, Holder, Quantity, ResourceId, TOTAL_MAX, Timestamp},
    envelope::{StockWebhookBody, asyncapi::document, schemas},
    store::FixedClock,
};
use bespeak_tests::{Api, Books, Client, bespeak};
use jsonschema::Validator;
use serde_json::{Value, json};
use uuid::Uuid;

/// The text of a committed file.
fn file(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json_file(path: &str) -> Value {
    serde_json::from_str(&file(path)).expect("JSON")
}

/// A validator that checks formats too; draft 7 does not know the format `uuid` by itself.
fn validator(schema: &Value) -> Validator {
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft7)
        .should_validate_formats(true)
        .with_format("uuid", |text| Uuid::try_parse(text).is_ok())
        .build(schema)
        .expect("a schema")
}

/// A validator for one schema of the document, with the components that it refers to.
fn validator_at(document: &Value, pointer: &str) -> Validator {
    assert!(document.pointer(pointer).is_some(), "there is no {pointer}");
    validator(&json!({"$ref": format!("#{pointer}"), "components": document["components"]}))
}

#[track_caller]
fn assert_valid(validator: &Validator, value: &Value) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?} in {value:#}");
}

/// Events as the engine writes them, at least one of each type.
async fn written() -> Vec<Value> {
    let clock = FixedClock::new("2026-01-01T00:00:00.000001Z".parse().expect("a time"));
    let api = Api::at(Books::sqlite(), &clock).await;
    api.stock("hotel/seat", 2).await;
    api.stock("...", 5).await;
    let body = json!({
        "items": [{"resourceId": "hotel/seat", "quantity": 2}, {"resourceId": "...", "quantity": 1}],
        "ttlSeconds": 60, "holder": "Änne", "metadata": {"b": 1, "a": [true, null]},
    });
    let first = api.reserve("1", &body).await.json()["token"].as_str().expect("a token").to_owned();
    api.post("/api/v1/extend", &json!({"token": first, "ttlSeconds": 90})).await;
    api.act("commit", &first).await;
    api.act("cancel", &first).await;
    let second = api.hold("2", "hotel/seat", 1).await;
    api.act("release", &second).await;
    api.hold("3", "hotel/seat", 2).await;
    clock.advance(Duration::from_secs(60));
    api.hold("4", "hotel/seat", 2).await;
    api.books.events().await
}

#[tokio::test]
async fn written_events_match_their_schemas() {
    let document = document();
    let frozen = json_file("docs/events/v1/types.json");
    let events = written().await;
    for event in &events {
        let kind = event["type"].as_str().expect("a type");
        let message = format!("/components/messages/{kind}");
        assert_valid(&validator_at(&document, &format!("{message}/payload")), &event["payload"]);
        assert_valid(&validator_at(&document, &format!("{message}/bindings/kafka/key")), &event["key"]);
        assert_eq!(event["payload"]["version"], event["version"]);
        // The event matches today's schema and the schema that was frozen with v1.
        let name = frozen[kind].as_str().expect("a type of v1");
        assert_valid(&validator(&schemas()[name]), &event["payload"]);
        let frozen = json_file(&format!("docs/events/v1/{name}.schema.json"));
        assert_valid(&validator(&frozen), &event["payload"]);
        for field in event["payload"].as_object().expect("an object").keys() {
            assert!(schemas()[name]["properties"][field].is_object(), "{field} of {kind} is not described");
        }
    }
    let written: BTreeSet<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(
        written,
        EventType::ALL.map(EventType::as_str).into(),
        "the story above lacks events of some types"
    );
}

#[tokio::test]
async fn schemas_reject_wrong_events() {
    let wrong = [
        ("token", json!("x")),
        ("version", json!(0)),
        ("status", json!("LOST")),
        ("items", json!([])),
        ("items", json!([{"resourceId": "a", "quantity": 0}])),
        ("items", json!([{"resourceId": "a", "quantity": 9_007_199_254_740_992_u64}])),
        ("items", json!([{"resourceId": "a//b", "quantity": 1}])),
        ("items", json!([{"resourceId": "a"}])),
        ("holder", json!("")),
        ("holder", json!(null)),
        ("metadata", json!("text")),
        ("createdAt", json!("yesterday")),
        ("expiresAt", json!(1)),
        ("resourceId", json!("a/../b")),
        ("availableStock", json!(-1)),
        ("totalStock", json!(1.5)),
    ];
    let document = document();
    let mut changed = BTreeSet::new();
    for event in written().await {
        let kind = event["type"].as_str().expect("a type");
        let validator = validator_at(&document, &format!("/components/messages/{kind}/payload"));
        let payload = event["payload"].as_object().expect("an object");
        for name in payload.keys() {
            let mut without = payload.clone();
            without.remove(name);
            let optional = ["holder", "metadata"].contains(&name.as_str());
            assert_eq!(validator.is_valid(&without.into()), optional, "{kind} without {name}");
        }
        for (name, value) in &wrong {
            let mut other = event["payload"].clone();
            if payload.contains_key(*name) {
                other[name] = value.clone();
                assert!(!validator.is_valid(&other), "{kind} with {name}: {value}");
                changed.insert(*name);
            }
        }
        let mut grown = event["payload"].clone();
        grown["added"] = "later".into();
        assert_valid(&validator, &grown);
    }
    let all: BTreeSet<&str> = wrong.iter().map(|(name, _)| *name).collect();
    assert_eq!(changed, all, "each field was changed in one event at least");
}

#[test]
fn the_resource_id_schema_matches_the_parser() {
    let validator = validator_at(&document(), "/components/schemas/ResourceId");
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut accepted = 0;
    let lengths = [0, 1, 2, 3, 4, 5, 6, 127, 128, 129];
    for _ in 0..20_000 {
        let length = lengths[random.usize(..lengths.len())];
        let alphabet: &[u8] = if length > 100 { b"aZ0._:-" } else { b"a9./:-_../ \n%" };
        let id: String = (0..length).map(|_| char::from(alphabet[random.usize(..alphabet.len())])).collect();
        let parsed = ResourceId::new("resourceId", &id).is_ok();
        assert_eq!(validator.is_valid(&json!(id)), parsed, "{id:?}; seed {seed}");
        accepted += usize::from(parsed);
    }
    assert!((2_000..18_000).contains(&accepted), "{accepted} were accepted; seed {seed}");
}

#[test]
fn the_name_and_quantity_schemas_match_the_parsers() {
    let document = document();
    let at = |name: &str| validator_at(&document, &format!("/components/schemas/{name}"));
    let (id, holder, quantity) = (at("ResourceId"), at("Holder"), at("Quantity"));
    for c in (0..0x250).chain([0xd7ff, 0xe000, 0x1_f600]).filter_map(char::from_u32) {
        for text in [c.to_string(), format!("a{c}"), format!("{c}b"), format!("a{c}b")] {
            let parsed = ResourceId::new("resourceId", &text).is_ok();
            assert_eq!(id.is_valid(&json!(text)), parsed, "resource id {text:?}");
            assert_eq!(holder.is_valid(&json!(text)), Holder::new(&text).is_ok(), "holder {text:?}");
        }
    }
    for length in [0, 1, Holder::LENGTH_MAX, Holder::LENGTH_MAX + 1] {
        let text = "é".repeat(length);
        assert_eq!(holder.is_valid(&json!(text)), Holder::new(&text).is_ok(), "{length} characters");
    }
    for units in [0, 1, TOTAL_MAX, TOTAL_MAX + 1, u64::MAX] {
        let parsed = Quantity::new("quantity", units).is_ok();
        assert_eq!(quantity.is_valid(&json!(units)), parsed, "{units} units");
    }
}

#[test]
fn stock_webhook_bodies_match_their_schema() {
    let validator = validator_at(&document(), "/components/schemas/StockNotice");
    let at: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let id = ResourceId::new("resourceId", "room-101").expect("an id");
    let event_id = Uuid::from_u128(5);
    let told = |kind, available| {
        StockWebhookBody::new(kind, (event_id, at), id.clone(), 7, available)
            .map(|notice| json!(notice))
            .unwrap_or_default()
    };
    let depleted = json!({
        "type": "STOCK_DEPLETED", "resourceId": "room-101", "value": 0, "timestamp": "2026-01-01T00:00:00Z",
        "version": 7, "eventId": event_id,
    });
    assert_eq!(told(EventType::Depleted, 0), depleted);
    assert_eq!(told(EventType::Restored, 3)["type"], "STOCK_RESTORED");
    for kind in EventType::ALL {
        let notice = told(kind, 3);
        assert_eq!(validator.is_valid(&notice), kind.as_str().starts_with("bespeak.stock."), "{notice}");
    }
    for (name, value) in
        [("type", json!("SOLD")), ("value", json!(-1)), ("timestamp", json!("now")), ("version", json!(0))]
    {
        let mut wrong = depleted.clone();
        wrong[name] = value;
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn the_document_is_asyncapi_3() {
    let official = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft7)
        .build(&json_file("tests/fixtures/asyncapi-3.0.0/schema.json"))
        .expect("a schema");
    let document = document();
    assert_valid(&official, &document);
    for spoil in ["/asyncapi", "/channels/events/address", "/operations/publishEvents/action", "/info"] {
        let mut spoilt = document.clone();
        *spoilt.pointer_mut(spoil).expect("it is there") = 7.into();
        assert!(!official.is_valid(&spoilt), "{spoil}");
    }
    // The meta-schema cannot check that each reference leads somewhere.
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 40, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} is nowhere");
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}

#[test]
fn every_type_has_its_message_and_every_example_is_valid() {
    let document = document();
    let messages = document["components"]["messages"].as_object().expect("messages");
    for kind in EventType::ALL.map(EventType::as_str) {
        let message = &messages[kind];
        assert_eq!(message["name"], kind);
        let listed = format!("#/components/messages/{kind}");
        assert_eq!(document["channels"]["events"]["messages"][kind]["$ref"], listed);
        let headers = validator_at(&document, &format!("/components/messages/{kind}/headers"));
        let mut example = message["examples"][0]["headers"].clone();
        for name in example.as_object().expect("headers").keys() {
            let mut without = example.clone();
            without.as_object_mut().expect("headers").remove(name);
            let optional = name.ends_with("traceparent");
            assert_eq!(headers.is_valid(&without), optional, "{kind} without {name}");
        }
        example["ce_type"] = "bespeak.reservation.lost.v1".into();
        assert!(!headers.is_valid(&example), "{kind} under another name");
    }
    for (name, message) in messages {
        let examples = message["examples"].as_array().expect("examples");
        assert!(!examples.is_empty(), "{name}");
        for (part, example) in examples
            .iter()
            .flat_map(|example| example.as_object().expect("an example"))
            .filter(|(part, _)| ["headers", "payload"].contains(&part.as_str()))
        {
            assert_valid(&validator_at(&document, &format!("/components/messages/{name}/{part}")), example);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_schemas_match_the_types() {
    let printed = bespeak(&["asyncapi"], &[]).await;
    assert_eq!((printed.code, &printed.json()), (0, &document()), "{}", printed.err);
    assert!(
        json_file("docs/events/asyncapi.json") == document(),
        "the events' description has changed: cargo bespeak asyncapi > docs/events/asyncapi.json"
    );
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().to_str().expect("text");
    let written = bespeak(&["asyncapi", "--schemas", path], &[]).await;
    assert_eq!((written.code, written.out.lines().count()), (0, schemas().len()), "{written:?}");
    let checked_in = checked_in("docs/events");
    assert!(
        checked_in == schemas(),
        "the schemas of events have changed: run `cargo xtask docs`, and remove the files of types that no longer exist"
    );
    for (name, schema) in schemas() {
        let text =
            std::fs::read_to_string(folder.path().join(format!("{name}.schema.json"))).expect("written");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), schema);
    }
    let api = Api::start(Books::sqlite()).await;
    assert_eq!(api.get("/asyncapi.json").await.json(), document());
}

/// The schemas in a folder, by name.
fn checked_in(folder: &str) -> BTreeMap<String, Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let files = std::fs::read_dir(path).expect("a folder");
    files
        .filter_map(|file| {
            let name = file.expect("a file").file_name().into_string().expect("text");
            let schema = name.strip_suffix(".schema.json")?;
            Some((schema.to_owned(), json_file(&format!("{folder}/{name}"))))
        })
        .collect()
}

#[test]
fn v1_schemas_change_only_additively() {
    const HOW: &str = "what v1 promised is broken; docs/events/README.md says what may change";
    let document = document();
    for (kind, schema) in json_file("docs/events/v1/types.json").as_object().expect("types") {
        let message = &document["components"]["messages"][kind];
        assert!(message.is_object(), "{kind} is gone: {HOW}");
        let referred = format!("#/components/schemas/{}", schema.as_str().expect("a name"));
        assert_eq!(message["payload"]["$ref"], referred, "{kind}: {HOW}");
    }
    let frozen = checked_in("docs/events/v1");
    assert_eq!(frozen.len(), 4, "{:?}", frozen.keys());
    let schemas = schemas();
    let broken: Vec<String> = frozen
        .iter()
        .flat_map(|(name, frozen)| {
            let current = schemas.get(name).unwrap_or_else(|| panic!("{name} is gone: {HOW}"));
            additive::breaks(frozen, current).into_iter().map(move |found| format!("{name}{found}"))
        })
        .collect();
    assert!(broken.is_empty(), "{broken:#?}: {HOW}");
}

#[test]
fn the_versioning_rule_is_the_same_in_document_and_readme() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let document = document();
    let description = document["info"]["description"].as_str().expect("a description");
    let (_, rule) = description.rsplit_once("\n\n").expect("paragraphs");
    assert!(rule.contains("`v1`"), "{rule}");
    assert!(
        words(&file("docs/events/README.md")).contains(&words(rule)),
        "docs/events/README.md lacks: {rule}"
    );
}
