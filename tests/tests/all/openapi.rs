//! The description of the API is served, contains the configured limits, and is shown without a network.

use std::collections::HashSet;

use bespeak_tests::{Api, Books, Client};
use serde_json::json;

#[tokio::test]
async fn the_document_lists_every_route_and_the_configured_limits() {
    let api = Api::with(
        Books::sqlite(),
        &[("BESPEAK_QUANTITY_MAX", "7"), ("BESPEAK_TTL_DEFAULT_SECONDS", "42")],
        None,
    )
    .await;
    let document = api.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().expect("paths");
    let mut routes: Vec<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().expect("an item").keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    routes.sort();
    insta::assert_json_snapshot!(routes);
    let property =
        |schema: &str, name: &str| document["components"]["schemas"][schema]["properties"][name].clone();
    assert_eq!(property("ReserveOneRequest", "quantity")["maximum"], 7);
    assert_eq!(property("ItemRequest", "quantity")["maximum"], 7);
    assert_eq!(property("ReserveManyRequest", "ttlSeconds")["default"], 42);
    assert_eq!(property("DefineRequest", "totalStock")["maximum"], 9_007_199_254_740_991_u64);
    assert_eq!(document["info"]["x-limits"]["bodyBytesMax"], 65_536);
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("an item") {
            let responses = operation["responses"].as_object().expect("responses");
            let succeeds = ["200", "201", "204"].iter().any(|status| responses.contains_key(*status));
            assert!(succeeds && responses.contains_key("503"), "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
        }
    }
    let union = &document["components"]["schemas"]["Problem"];
    let types: Vec<&str> = bespeak_http::problem_types().map(|one| one.slug).collect();
    assert_eq!(union["oneOf"].as_array().map(Vec::len), Some(types.len()));
    for slug in types {
        let name = union["discriminator"]["mapping"][slug].as_str().expect("a reference");
        let schema = document.pointer(&name[1..]).expect("a schema");
        assert_eq!(schema["properties"]["type"]["const"], slug);
    }
    let conflict = &document["paths"]["/api/v1/commit"]["post"]["responses"]["409"]["content"];
    let choices = &conflict["application/problem+json"]["schema"]["oneOf"];
    assert_eq!(choices.as_array().map(Vec::len), Some(2), "already-released, already-cancelled");
}

#[test]
fn the_contract_names_every_operation_and_bounds_its_values() {
    let contract = bespeak_http::contract();
    let mut ids = HashSet::new();
    for (path, item) in contract["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_owned()), "{id} names two operations");
            assert!(!id.contains('_'), "{method} {path} has no row in the table of operations: {id}");
            let retry = operation["x-retry"].as_str();
            assert!(matches!(retry, Some("safe" | "key" | "unsafe")), "{id} does not say what a retry does");
            for (status, response) in operation["responses"].as_object().expect("responses") {
                let description = response["description"].as_str().unwrap_or_default();
                assert!(!description.is_empty(), "{id} {status} has no description");
            }
        }
    }
    let text = contract.to_string();
    assert!(!text.contains(r#""null""#), "an optional field is absent and never null");
    assert!(!text.contains("x-limits") && !text.contains(r#""default""#), "limits belong to an installation");
    let schemas = contract["components"]["schemas"].as_object().expect("schemas");
    for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(contract.pointer(reference).is_some(), "{reference} is not in the document");
    }
    for (name, schema) in schemas {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            let bounded = property["const"].is_number()
                || (property["minimum"].is_number() && property["maximum"].is_number());
            assert!(property["type"] != "integer" || bounded, "{name}.{field} is not bounded");
        }
    }
    assert_eq!(contract["security"], json!([]));
    for webhook in ["reservationEvent", "stockNotice", "webhookTest"] {
        assert!(contract["webhooks"][webhook]["post"]["requestBody"].is_object(), "{webhook}");
    }
}

#[tokio::test]
async fn the_document_of_a_server_has_its_base_path() {
    let settings = [("BESPEAK_HTTP_BASE_PATH", "/booking")];
    let api = Api::with(Books::sqlite(), &settings, None).await;
    assert_eq!(api.get("/booking/openapi.json").await.json()["servers"][0]["url"], "/booking");
}

#[tokio::test]
async fn the_documentation_needs_no_network() {
    let api = Api::start(Books::sqlite()).await;
    let page = api.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert!(!page.text.contains("//unpkg") && !page.text.contains("https://"), "{}", page.text);
    for asset in ["swagger-ui-bundle.js", "swagger-ui.css", "swagger-initializer.js"] {
        assert!(page.text.contains(asset), "{asset}");
        assert_eq!(api.get(&format!("/docs/{asset}")).await.status, 200, "{asset}");
    }
    assert!(api.get("/docs/swagger-initializer.js").await.text.contains("/openapi.json"));
    assert!(api.get("/docs").await.status.is_redirection());
}

/// Answers stay out of caches, and the documentation runs only its own code, in no frame.
#[tokio::test]
async fn answers_have_the_headers_that_protect_browsers() {
    let api = Api::start(Books::sqlite()).await;
    api.stock("seat", 2).await;
    let held = api.reserve("k", &json!({"resourceId": "seat", "quantity": 1})).await;
    let token = held.json()["token"].as_str().expect("a token").to_owned();
    let answers = [
        held,
        api.get(&format!("/api/v1/reservations/{token}")).await,
        api.get("/api/v1/resources/none").await,
        api.get("/nowhere").await,
        api.get("/health/live").await,
        api.get("/metrics").await,
        api.get("/openapi.json").await,
        api.get("/").await,
    ];
    for answer in answers {
        assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer:?}");
    }
    for path in ["/docs/", "/docs/swagger-ui-bundle.js", "/docs/index.html"] {
        let page = api.get(path).await;
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(page.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(page.header("x-frame-options"), "DENY", "{path}");
        let policy = page.header("content-security-policy");
        assert!(
            policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(
            !policy.contains("unsafe-eval") && !policy.contains("script-src"),
            "only own scripts: {policy}"
        );
    }
    // The policy forbids inline scripts, so the page must have none.
    let page = api.get("/docs/").await.text;
    for script in page.split("<script").skip(1) {
        assert!(
            script.split('>').next().is_some_and(|tag| tag.contains("src=")),
            "an inline script: {script}"
        );
    }
}
